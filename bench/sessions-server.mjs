// The walk of sessions by llama.cpp's HTTP server, a real process: each turn is a request over the loopback.

import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { WORK } from '../scripts/run.mjs';
import { post, start } from './server.mjs';

/**
 * How the server may put conversations away: in files, at the client's request, or by its prompt cache in memory. It would also take
 * idle slots into the prompt cache and empty them when another request comes, which empties a slot that has just been restored.
 */
export const WAYS = ['slot files', 'prompt cache'];

/** What llama_state_seq_load_file reads: magic, version and tokens before a sequence's state (llama.h: LLAMA_STATE_SEQ_*). */
function slotFile(snapshot) {
  const at = (offset) => Number(snapshot.readBigUInt64LE(offset)); // docs/snapshot.md
  const [head, whole, tokens] = [at(8), at(16), at(56)];
  let offset = 80;
  for (let i = snapshot.readUInt32LE(52); i > 0; i--) offset += 8 + snapshot.readUInt32LE(offset) + snapshot.readUInt32LE(offset + 4);
  const words = Buffer.alloc(12);
  words.writeUInt32LE(0x67677371, 0);
  words.writeUInt32LE(3, 4);
  words.writeUInt32LE(tokens, 8);
  // A state in memory begins with a magic of its own and the sequence's id.
  return Buffer.concat([words, snapshot.subarray(offset, offset + 4 * tokens), snapshot.subarray(head + 8, whole)]);
}

/**
 * @param {{ way: string, path: string, threads: number, sequences: number, kvTokens: number, cacheMiB: number, conversations: { text: string, snapshot: Uint8Array }[] }} options
 *   The conversations are known to the server before it is measured, by their state.
 */
export async function openWalker({ way, path, threads, sequences, kvTokens, cacheMiB, conversations }) {
  const inFiles = way === 'slot files';
  const folder = join(WORK, 'bench', `slots-${WAYS.indexOf(way)}`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  conversations.forEach(({ snapshot }, i) => writeFileSync(join(folder, `${i}.bin`), slotFile(Buffer.from(snapshot.buffer, snapshot.byteOffset, snapshot.byteLength))));
  const { port, explain, close } = await start([
    '-m', path, '-dev', 'none', '-t', threads, '-np', sequences, '-kvu', '-c', kvTokens, '-fit', 'off', '--slot-save-path', folder,
    '--cache-ram', inFiles ? 0 : cacheMiB, '--no-ui', '--host', '127.0.0.1', '--port', 0,
  ]);
  const slot = (id, action, name) => post(port, `/slots/${id}?action=${action}`, { filename: `${name}.bin` });
  const complete = async (prompt, tokens, id) => {
    let last;
    const body = { prompt, n_predict: tokens, stream: true, temperature: 0, ignore_eos: true, cache_prompt: true, ...(id !== undefined && { id_slot: id }) };
    await post(port, '/completion', body, (event) => (last = event));
    assert.equal(last?.tokens_predicted, tokens, 'as many tokens as were asked for');
    return last.timings.prompt_n;
  };
  const told = (work) => (...args) => work(...args).catch((error) => Promise.reject(explain(error)));
  const turn = told(async (i, prompt, tokens, id) => {
    if (!inFiles) return complete(prompt, tokens);
    await slot(id, 'restore', i);
    const prefilled = await complete(prompt, tokens, id);
    await slot(id, 'save', i);
    return prefilled;
  });
  // The prompt cache takes what a request for another prompt pushes out of a slot.
  const fill = told(async () => {
    for (const [i, { text }] of conversations.entries()) {
      await slot(0, 'restore', i);
      await complete(text, 1, 0);
      await complete('x', 1, 0);
    }
  });
  const ended = async () => {
    await close();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    if (!inFiles) await fill();
  } catch (error) {
    await ended();
    throw error;
  }
  /** `turn(i, prompt, tokens, id)`: a turn of conversation `i` on slot `id`; the tokens that the server prefilled. */
  return { name: `llama-server, ${way}`, turn, close: ended };
}
