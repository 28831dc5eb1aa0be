// llama.cpp's own programs from the patched tree: what our results, speeds and memory are put beside.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

import { WORK } from '../scripts/run.mjs';

export const BIN = join(WORK, 'cmake', 'bin');

const CHECKED_TOKENS = 64;

const completion = (path, tokens, context) => [
  '-m', path, '-dev', 'none', '-p', '', '-n', String(tokens), '--temp', '0', '--ignore-eos', '-no-cnv', '-c', String(context), '--no-display-prompt',
];

/** Greedy tokens through the public API are those of llama-completion. */
export async function checkText(path) {
  const { loadModel } = await import('../dist/index.js');
  const model = await loadModel(path, { devices: ['cpu'], context: 512 });
  const session = await model.session();
  const { text } = await session.complete('', { temperature: 0, ignoreEos: true, maxTokens: CHECKED_TOKENS });
  await model.dispose();
  const upstream = execFileSync(join(BIN, 'llama-completion'), completion(path, CHECKED_TOKENS, 512), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  assert.equal(text.trim(), upstream.trim(), 'greedy tokens are those of llama-completion');
  return text;
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
