// npm run bench -- robustness: how long the event loop is held up, in a process of its own: while a model decodes on one thread, and while a file of
// 1 GB is read.
//
//   npm run bench -- robustness [--seconds N] [--output FILE]

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { execFile } from 'node:child_process';
import { dirname, join, relative } from 'node:path';
import { parseArgs, promisify } from 'node:util';

import { ROOT, SetupError, WORK, ask } from '../scripts/run.mjs';
import { setUp } from '../scripts/setup.mjs';

const BAR_MS = 5;

/** A file of 1 GB, zeros but for its head: as long to read as any other. */
export async function largeFile() {
  const path = join(WORK, 'bench', '1GB.gguf');
  if (existsSync(path)) return path;
  const { synthesize } = await import('../dist/gguf/index.js'); // needs what setUp made
  mkdirSync(dirname(path), { recursive: true });
  await synthesize(path, 'M', { types: { matrices: 'q8_0' }, headerOnly: true });
  return path;
}

/** What event-loop.mjs says. */
export async function eventLoop(seconds) {
  const args = [join(ROOT, 'bench', 'event-loop.mjs'), await largeFile(), String(seconds)];
  return JSON.parse((await promisify(execFile)(process.execPath, args, { cwd: ROOT })).stdout);
}

export async function benchRobustness(args) {
  const { values } = parseArgs({
    args,
    options: { seconds: { type: 'string', default: '20' }, output: { type: 'string', default: join(ROOT, 'bench', 'results', 'robustness.json') } },
  });
  const seconds = Number(values.seconds);
  if (!(seconds > 0)) throw new SetupError(`--seconds takes a number above 0; found ${values.seconds}`);
  await setUp();
  const { machine } = await import('../dist/bench/index.js');
  const delayMs = await eventLoop(seconds);
  const run = { command: 'npm run bench -- robustness', commit: ask('git', ['describe', '--always', '--dirty']) ?? 'unknown', date: new Date().toISOString().slice(0, 10), machine: machine() };
  const verdicts = ['decode', 'load'].map((what) => ({ what: `event loop while ${what === 'load' ? '1 GB is loaded' : 'decoding on one thread'}, p99 in ms`, target: `< ${BAR_MS}`, value: delayMs[what].p99, met: delayMs[what].p99 < BAR_MS }));
  mkdirSync(dirname(values.output), { recursive: true });
  writeFileSync(values.output, `${JSON.stringify({ run, eventLoopDelayMs: delayMs, verdicts }, null, 1)}\n`);
  for (const { what, target, value, met } of verdicts) console.log(`${what.padEnd(56)} ${String(value).padStart(8)}   ${met ? 'meets' : 'MISSES'} ${target}`);
  console.log(`written to ${relative(process.cwd(), values.output)}`);
  return verdicts.every(({ met }) => met) ? 0 : 1;
}
