#!/usr/bin/env node
// npm run bench: ternion beside llama.cpp's own programs from the same source, and beside other Node bindings, in one run.
//
//   npm run bench -- [--model S] [--model M] [--model embedded] [--tests LIST] [--rounds N] [--no-peers]
//                    [--llama-bench PATH] [--compare FILE] [--output FILE]
//
// Ratios count; bare figures are this machine's, today. Close other work while it runs: it takes about half an hour.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';

import { ROOT, SetupError, ask, main } from '../scripts/run.mjs';
import { setUp } from '../scripts/setup.mjs';
import { openPeers } from './rivals.mjs';
import { SHAPES, shapeFile } from './shapes.mjs';
import { verdicts } from './targets.mjs';
import { checkText, completionMemory } from './upstream.mjs';

const MODELS = [...SHAPES, 'embedded'];
// Long enough to outlast the scheduler's whims, short enough for many rounds.
const TOKENS = { S: 512, M: 128, embedded: 512 };
// The embedded model is there for what a process takes to start.
const TESTS = { embedded: ['startup'] };
const THREADS = 2;
const MEMORY = { tokens: 16, context: 2048 };

await main(async (args) => {
  const { values } = parseArgs({
    args,
    options: {
      model: { type: 'string', multiple: true, default: MODELS },
      tests: { type: 'string' },
      rounds: { type: 'string', default: '5' },
      peers: { type: 'boolean', default: true },
      'llama-bench': { type: 'string', multiple: true, default: [] },
      compare: { type: 'string' },
      output: { type: 'string', default: join(ROOT, 'bench', 'results', 'bench.json') },
    },
    allowNegative: true,
  });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new SetupError(`--rounds takes a whole number from 1; found ${values.rounds}`);
  const unknown = values.model.find((model) => !MODELS.includes(model));
  if (unknown !== undefined) throw new SetupError(`--model takes ${MODELS.join(', ')}; found ${unknown}`);
  const old = values.compare && JSON.parse(readFileSync(values.compare, 'utf8'));

  await setUp({ tests: true, server: values.peers });
  const { benchTests, benchmark, chart, changes, panels, table } = await import('../dist/bench/index.js'); // needs what setUp made
  const chosen = values.tests?.split(',') ?? benchTests;
  const results = {
    command: ['npm run bench', ...(args.length > 0 ? ['--', ...args] : [])].join(' '),
    commit: ask('git', ['describe', '--always', '--dirty']) ?? 'unknown',
    models: {},
  };
  const pictures = [];
  for (const model of values.model) {
    const path = await shapeFile(model);
    await checkText(path);
    const tests = chosen.filter((test) => TESTS[model]?.includes(test) ?? true);
    if (tests.length === 0) continue;
    const memory = tests.includes('startup') ? await completionMemory(path, { ...MEMORY, threads: THREADS }) : undefined;
    const onlyStartup = tests.every((test) => test === 'startup');
    const rivals = values.peers && !onlyStartup ? await openPeers({ path, threads: THREADS, forks: values['llama-bench'] }) : { peers: [], missing: [] };
    try {
      const report = await benchmark(path, {
        devices: ['cpu'], threads: THREADS, rounds, tests, tokens: TOKENS[model], peers: rivals.peers,
        onProgress: (fraction, what) => status(`${model}, ${what} ${Math.floor(100 * fraction)} %`),
      });
      status('');
      const own = report.figures.find(({ test }) => test === 'peak resident memory')?.median;
      results.models[model] = {
        ...report,
        missing: [...report.missing, ...rivals.missing],
        ...(memory ? { completionPeakResidentBytes: memory, memoryOverCompletion: own - memory } : {}),
      };
      console.log(`\n${table(results.models[model])}`);
      if (old?.models[model]) console.log(`\n${changes(old.models[model], report)}`);
      if (!onlyStartup) pictures.push(...panels(report, model));
    } finally {
      for (const peer of rivals.peers) await peer.close?.();
    }
  }
  results.verdicts = verdicts(results.models);
  console.log('');
  for (const { what, model, bar, value, met } of results.verdicts) {
    console.log(`${`${what} (${model})`.padEnd(68)} ${String(value).padStart(9)}   ${met ? 'meets' : 'MISSES'} ${bar}`);
  }
  mkdirSync(dirname(values.output), { recursive: true });
  writeFileSync(values.output, `${JSON.stringify(results, null, 2)}\n`);
  const first = Object.values(results.models)[0];
  const note = `${first?.machine.cpu}; ${THREADS} threads, CPU; median tokens per second with quartiles; ${results.command}; commit ${results.commit}`;
  const picture = values.output.replace(/\.json$/, '.svg');
  if (pictures.length > 0) writeFileSync(picture, chart(pictures, note));
  console.log(`written to ${relative(process.cwd(), values.output)}${pictures.length > 0 ? ` and ${basename(picture)}` : ''}`);
});

function status(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}
