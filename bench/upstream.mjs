// llama.cpp's own programs from the patched tree: what our results, speeds and memory are put beside.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

import { WORK } from '../scripts/run.mjs';

export const BIN = join(WORK, 'cmake', 'bin');

// A trained model begins its text with a control token where the prompt is empty, and upstream shows those.
const PROMPT = 'Once upon a time';
const CHECKED_TOKENS = 64;
const CHECKED_TOGETHER = 8;

const completion = (path, tokens, context, prompt = '') => [
  '-m', path, '-dev', 'none', '-p', prompt, '-n', String(tokens), '--temp', '0', '--ignore-eos', '-no-cnv', '-c', String(context), '--no-display-prompt',
];

/** With upstream's kernels greedy tokens through the public API are those of llama-completion, and sessions that decode together agree. */
export async function checkText(path, threads) {
  const { loadModel } = await import('../dist/index.js');
  const kernels = process.env.TERNION_KERNEL;
  process.env.TERNION_KERNEL = 'upstream'; // ours round otherwise
  const model = await loadModel(path, { devices: ['cpu'], threads, context: 512, sequences: 8 });
  if (kernels === undefined) delete process.env.TERNION_KERNEL;
  else process.env.TERNION_KERNEL = kernels;
  const sessions = await Promise.all(Array.from({ length: 8 }, () => model.session()));
  const complete = async (session, maxTokens) => (await session.complete(PROMPT, { temperature: 0, ignoreEos: true, maxTokens })).text;
  const text = await complete(sessions[0], CHECKED_TOKENS);
  // A batch rounds otherwise, which tips near-ties sooner or later: the first tokens are what every session must agree on.
  const start = await complete(sessions[0], CHECKED_TOGETHER);
  const together = await Promise.all(sessions.map((session) => complete(session, CHECKED_TOGETHER)));
  await model.dispose();
  for (const each of together) assert.equal(each, start, 'sessions that decode together say what one says alone');
  const upstream = execFileSync(join(BIN, 'llama-completion'), completion(path, CHECKED_TOKENS, 512, PROMPT), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  assert.equal(text.trim(), upstream.trim(), 'greedy tokens are those of llama-completion');
}

/** The most memory that llama-completion had resident, in bytes: asked for until it ends, and it only ever grows. */
export async function completionMemory(path, { tokens, context, threads }) {
  const running = spawn(join(BIN, 'llama-completion'), [...completion(path, tokens, context), '-t', String(threads)], { stdio: 'ignore' });
  const ended = new Promise((resolve, reject) => running.on('error', reject).on('exit', resolve));
  let peak = 0;
  for (let over = false; !over; over = await Promise.race([ended.then(() => true), wait(2, false)])) {
    try {
      const kilobytes = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${running.pid}/status`, 'utf8'))?.[1];
      peak = Math.max(peak, Number(kilobytes ?? 0) * 1024);
    } catch {
      // It has just ended, or this is no Linux: then there is no figure.
    }
  }
  assert.equal(await ended, 0, 'llama-completion succeeds');
  return peak;
}
