// A system that refuses threads: work that needs none of its own is done where it was asked for, a load fails, and the process is none the worse.
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, expect, test } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'ternion-no-threads-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const library = join(folder, 'no-threads.so');
execFileSync('c++', ['-x', 'c', '-shared', '-fPIC', '-o', library, 'test/hazard/no-threads.c', '-x', 'none', '-ldl']);

test.each([
  ['devices', 'done'],
  ['load', 'ERR_OUT_OF_MEMORY'],
  ['load, but for twenty threads', 'ERR_OUT_OF_MEMORY'],
  ['load again', 'ERR_OUT_OF_MEMORY'],
  ['load again, but for one thread', 'ERR_OUT_OF_MEMORY'],
  ['load again, but for two threads', 'ERR_OUT_OF_MEMORY'],
  ['load again, but for three threads', 'ERR_OUT_OF_MEMORY'],
  ['load again, but for four threads', 'ERR_OUT_OF_MEMORY'],
  ['load again, but for five threads', 'done'],
  ['tokenize', 'done'],
  ['chat', 'done'],
  ['embed', 'done'],
  ['dispose', 'done'],
  ['quantize', 'ERR_OUT_OF_MEMORY'],
  ['quantize, but for its own thread', 'done'],
  ['quantize, but for two threads', 'done'],
])('%s', async (what, expected) => {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ['test/hazard/no-threads-child.mjs', what], { env: { ...process.env, LD_PRELOAD: library }, timeout: 30_000 });
  expect([stdout, stderr]).toEqual([`${expected}; 3`, '']);
});
