// The walk of sessions by llama.cpp's HTTP server, a real process: each turn is a request over the loopback.

import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { WORK } from '../scripts/run.mjs';
import { post, start } from './server.mjs';

/** How the server may put conversations away. */
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
 * @param {{ path: string, threads: number, sequences: number, kvTokens: number, cacheMiB: number, conversations: { text: string, snapshot: Uint8Array }[] }} options
 *   The conversations are known to the server before it is measured, by their state.
 */
export async function openWalker({ path, threads, sequences, kvTokens, cacheMiB, conversations }) {
  const folder = join(WORK, 'bench', 'slots');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  conversations.forEach(({ snapshot }, i) => writeFileSync(join(folder, `${i}.bin`), slotFile(Buffer.from(snapshot.buffer, snapshot.byteOffset, snapshot.byteLength))));
  const { port, explain, close } = await start([
    '-m', path, '-dev', 'none', '-t', threads, '-np', sequences, '-kvu', '-c', kvTokens, '-fit', 'off', '--cache-ram', cacheMiB, '--slot-save-path', folder,
    '--no-ui', '--host', '127.0.0.1', '--port', 0,
  ]);
  const slot = (id, action, name) => post(port, `/slots/${id}?action=${action}`, { filename: `${name}.bin` });
  const complete = async (prompt, tokens, id) => {
    let last;
    const body = { prompt, n_predict: tokens, stream: true, temperature: 0, ignore_eos: true, cache_prompt: true, ...(id !== undefined && { id_slot: id }) };
    await post(port, '/completion', body, (event) => (last = event));
    assert.equal(last?.tokens_predicted, tokens, 'as many tokens as were asked for');
    return { prefilled: last.timings.prompt_n };
  };
  return {
    /** Puts every conversation into the prompt cache: that takes what a request for another prompt pushes out of a slot. */
    fill: async () => {
      for (const [i, { text }] of conversations.entries()) {
        await slot(0, 'restore', i);
        await complete(text, 1, 0);
        await complete('x', 1, 0);
      }
    },
    /** A turn of conversation `i` on slot `id`: `{ prefilled }` tokens. */
    turn: async (way, i, prompt, tokens, id) => {
      try {
        if (way === 'prompt cache') return await complete(prompt, tokens);
        await slot(id, 'restore', i);
        const done = await complete(prompt, tokens, id);
        await slot(id, 'save', i);
        return done;
      } catch (error) {
        throw explain(error);
      }
    },
    close: async () => {
      await close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
