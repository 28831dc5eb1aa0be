#!/usr/bin/env node
// npm run bench: ternion beside llama.cpp's own programs from the same source, and beside other Node bindings, in one run.
//
//   npm run bench -- [--model S] [--model M] [--model embedded] [--tests LIST] [--rounds N] [--no-peers]
//                    [--llama-bench PATH] [--compare FILE] [--output FILE]
//   npm run bench -- sessions …                  see sessions.mjs
//   npm run bench -- plan …                      see plan.mjs
//   npm run bench -- experts …                   see experts.mjs
//   npm run bench -- predict …                   see predict.mjs
//
// Ratios count; bare figures are this machine's, today. Close other work while it runs: it takes about half an hour.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';

import { ROOT, SetupError, ask, main } from '../scripts/run.mjs';
import { setUp } from '../scripts/setup.mjs';
import { benchExperts } from './experts.mjs';
import { benchPackage } from './package.mjs';
import { benchPlan } from './plan.mjs';
import { benchPredictions } from './predict.mjs';
import { benchRobustness } from './robustness.mjs';
import { benchSessions } from './sessions.mjs';
import { SHAPES, shapeFile } from './shapes.mjs';
import { verdicts } from './targets.mjs';
import { checkText, completionMemory } from './upstream.mjs';

const MODELS = [...SHAPES, 'embedded'];
// Long enough to outlast the scheduler's whims, short enough for many rounds.
const TOKENS = { S: 1024, M: 128, embedded: 512 };
const SESSION_TOKENS = { S: 256, M: 32, embedded: 64 };
// The embedded model is there for what a process takes to start.
const TESTS = { embedded: ['startup'] };
const THREADS = 2;
// What the chart shows; the JSON has all.
const PICTURED = ['prefill 512', 'decode', 'decode at 4096', '8 sessions'];

const PARTS = { sessions: benchSessions, plan: benchPlan, experts: benchExperts, predict: benchPredictions, package: benchPackage, robustness: benchRobustness };

await main(async ([part, ...rest]) => (Object.hasOwn(PARTS, part ?? '') ? PARTS[part](rest) : benchModels(part === undefined ? [] : [part, ...rest])));

async function benchModels(args) {
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
  if (!values.output.endsWith('.json')) throw new SetupError('--output takes a path that ends in .json; the chart goes beside it');
  const old = values.compare && readOld(values.compare);

  await setUp({ tests: true, server: values.peers });
  const { benchTests, benchmark, chart, changes, panels, table } = await import('../dist/bench/index.js'); // needs what setUp made
  const { openPeers } = await import('./rivals.mjs');
  const { startupContext, startupTokens } = await import('../dist/bench/startup.js');
  const chosen = values.tests?.split(',') ?? benchTests;
  const run = {
    command: ['npm run bench', ...(args.length > 0 ? ['--', ...args] : [])].join(' '),
    commit: ask('git', ['describe', '--always', '--dirty']) ?? 'unknown',
  };
  // Models that are not measured now keep what an earlier run says of them, with its command, commit and date.
  const results = { models: existsSync(values.output) ? readOld(values.output).models : {} };
  for (const model of values.model) {
    const path = await shapeFile(model);
    await checkText(path, THREADS);
    const tests = chosen.filter((test) => TESTS[model]?.includes(test) ?? true);
    if (tests.length === 0) continue;
    const memory = tests.includes('startup') ? await completionMemory(path, { tokens: startupTokens, context: startupContext, threads: THREADS }) : undefined;
    const missing = [];
    const report = await benchmark(path, {
      devices: ['cpu'], threads: THREADS, rounds, tests, tokens: TOKENS[model], sessionTokens: SESSION_TOKENS[model],
      peers: values.peers && tests.some((test) => test !== 'startup') ? (settings) => openPeers(settings, { forks: values['llama-bench'], missing }) : undefined,
      onProgress: (fraction, what) => status(`${model}, ${what} ${Math.floor(100 * fraction)} %`),
    });
    status('');
    const own = report.figures.find(({ test }) => test === 'peak resident memory')?.median;
    results.models[model] = {
      ...run,
      ...report,
      missing: [...report.missing, ...missing],
      ...(memory ? { completionPeakResidentBytes: memory, memoryOverCompletion: own - memory } : {}),
    };
    console.log(`\n${table(results.models[model])}`);
    if (old?.models[model]) console.log(`\n${changes(old.models[model], report)}`);
    write(values.output, results); // what is measured is kept, whatever comes next
  }
  results.verdicts = verdicts(results.models);
  console.log('');
  for (const { what, model, bar, value, met } of results.verdicts) {
    console.log(`${`${what} (${model})`.padEnd(68)} ${String(value).padStart(9)}   ${met ? 'meets' : 'MISSES'} ${bar}`);
  }
  write(values.output, results);
  const reports = Object.entries(results.models).filter(([, report]) => report.figures.some(({ unit }) => unit === 'tok/s'));
  const pictures = reports.flatMap(([model, report]) => panels(report, model).filter(({ title }) => PICTURED.some((test) => title === `${model}: ${test}`)));
  const [[, first] = []] = reports;
  const note = `${first?.machine.cpu}; ${THREADS} threads, CPU; median tokens per second with quartiles; npm run bench; commit ${first?.commit}`;
  const picture = values.output.replace(/\.json$/, '.svg');
  if (pictures.length > 0) writeFileSync(picture, chart(pictures, note));
  console.log(`written to ${relative(process.cwd(), values.output)}${pictures.length > 0 ? ` and ${basename(picture)}` : ''}`);
}

function readOld(path) {
  const old = JSON.parse(readFileSync(path, 'utf8'));
  if (!old.models) throw new SetupError(`${path} was not written by npm run bench`);
  return old;
}

function write(path, results) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${JSON.stringify(results, null, 2)}\n`);
}

function status(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}
