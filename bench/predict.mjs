// npm run bench -- predict: what plans say of speed, beside what the models then do, in turns, on the CPU.
//
//   npm run bench -- predict [--model S] [--model M] [--model mixture] [--rounds N] [--output FILE]
//
// Each round predicts (anew, nothing is kept) and then decodes and prefills at both depths by the engine's clock; ratios are of one round.
// Close other work while it runs: it takes about five minutes.

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';

import { ROOT, SetupError, ask } from '../scripts/run.mjs';
import { setUp } from '../scripts/setup.mjs';
import { THREADS, greedy } from './samples.mjs';
import { shapeFile } from './shapes.mjs';
import { fileOf } from './ternary-systems.mjs';

const MODELS = ['S', 'M', 'mixture'];
const DEPTHS = [0, 4096];
const PREFILL = 512; // tokens of one ubatch
const DECODED = 64;
const REPEATS = { S: 9, M: 3, mixture: 3 }; // of short samples the median counts
const BARS = { decode: 0.15, prefill: 0.3 };

export async function benchPredictions(args) {
  const { values } = parseArgs({
    args,
    options: {
      model: { type: 'string', multiple: true, default: MODELS },
      rounds: { type: 'string', default: '5' },
      output: { type: 'string', default: join(ROOT, 'bench', 'results', 'predict.json') },
    },
  });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new SetupError(`--rounds takes a whole number from 1; found ${values.rounds}`);
  const unknown = values.model.find((model) => !MODELS.includes(model));
  if (unknown !== undefined) throw new SetupError(`--model takes ${MODELS.join(', ')}; found ${unknown}`);
  await setUp({});
  const { loadModel, plan } = await import('../dist/index.js');
  const { machine, summarize } = await import('../dist/bench/index.js');
  const { textOf } = await import('../dist/bench/prompt.js');
  const { synthesize } = await import('../dist/gguf/index.js');
  const request = { devices: ['cpu'], threads: THREADS, context: 8192, cache: { ramBytes: 0 } };
  const report = {
    run: { command: ['npm run bench -- predict', ...args].join(' '), commit: ask('git', ['describe', '--always', '--dirty']) ?? 'unknown', date: new Date().toISOString().slice(0, 10), machine: machine(), threads: THREADS, rounds },
    models: {},
    verdicts: [],
  };
  for (const name of values.model) {
    const path = name === 'mixture' ? await fileOf(name, 'tq2_0', synthesize) : await shapeFile(name);
    const found = Object.fromEntries(Object.keys(BARS).flatMap((what) => DEPTHS.map((depth) => [`${what} at ${depth}`, { predicted: [], actual: [] }])));
    let disturbed = 0;
    // One model for each depth: attention reads cells that others left, too.
    const models = await Promise.all(DEPTHS.map((depth) => Run.open(loadModel, textOf, path, request, depth)));
    try {
      for (let round = 0; round <= rounds; round++) { // the first one warms up
        const { speed } = await plan(path, { ...request, measure: 'again' });
        assert.ok(speed.basis === 'steps');
        disturbed += round > 0 && speed.disturbed ? 1 : 0;
        for (const model of models) {
          const row = speed.depth.find(({ depth }) => depth === model.depth);
          const actual = { decode: [], prefill: [] };
          for (let i = 0; i < REPEATS[name]; i++) {
            actual.decode.push(await model.decode());
            actual.prefill.push(await model.prefill(round * REPEATS[name] + i));
          }
          const predicted = { decode: row.decodeTokensPerSecond, prefill: row.prefillTokensPerSecond };
          for (const what of round === 0 ? [] : Object.keys(BARS)) {
            found[`${what} at ${model.depth}`].predicted.push(predicted[what]);
            found[`${what} at ${model.depth}`].actual.push(summarize(actual[what]).median);
          }
        }
        console.error(`${name}, round ${round} of ${rounds}${speed.disturbed ? ', disturbed' : ''}`);
      }
    } finally {
      for (const model of models) await model.close();
    }
    report.models[name] = { disturbedRounds: disturbed, tests: {} };
    for (const [test, { predicted, actual }] of Object.entries(found)) {
      const ratio = summarize(predicted.map((value, i) => value / actual[i]));
      report.models[name].tests[test] = { unit: 'tok/s', predicted: summarize(predicted), actual: summarize(actual), ratio };
      const within = BARS[test.split(' ')[0]];
      report.verdicts.push({ what: `${test}, predicted to actual`, model: name, within, value: ratio.median, met: Math.abs(ratio.median - 1) <= within });
    }
    mkdirSync(dirname(values.output), { recursive: true });
    writeFileSync(values.output, `${JSON.stringify(report, null, 1)}\n`); // what is measured is kept, whatever comes next
  }
  for (const { what, model, within, value, met } of report.verdicts) {
    console.log(`${`${what} (${model})`.padEnd(48)} ${value.toFixed(3).padStart(7)}   ${met ? 'meets' : 'MISSES'} 1 ± ${within}`);
  }
  const troubled = Object.entries(report.models).filter(([, { disturbedRounds }]) => disturbedRounds > 0).map(([name, each]) => `${name} ${each.disturbedRounds}`);
  if (troubled.length > 0) console.log(`rounds that something disturbed: ${troubled.join(', ')}`);
  console.log(`written to ${relative(process.cwd(), values.output)}`);
}

/** A model with a session of so many tokens, from which each sample forks. */
class Run {
  constructor(model, base, text, textOf, depth) {
    Object.assign(this, { model, base, text, textOf, depth });
  }

  static async open(loadModel, textOf, path, request, depth) {
    const model = await loadModel(path, request);
    const base = await model.session();
    const text = await textOf(model, Math.max(depth, 2), 1);
    if (depth > 0) await base.complete(text, { ...greedy, maxTokens: 0 });
    return new Run(model, base, text, textOf, depth);
  }

  async decode() {
    const usage = await this.#fork(this.text, DECODED);
    assert.equal(usage.generated, DECODED);
    return ((DECODED - 1) * 1000) / usage.decodeMs;
  }

  async prefill(seed) {
    const more = await this.textOf(this.model, PREFILL, 2 + seed);
    const { prompt, cached, prefillMs } = await this.#fork(this.depth > 0 ? `${this.text} ${more}` : more, 1);
    // Where two texts meet, tokens may merge.
    assert.ok(Math.abs(prompt - cached - PREFILL) <= 16, `${prompt - cached} tokens were prefilled`);
    return ((prompt - cached) * 1000) / prefillMs;
  }

  async #fork(text, maxTokens) {
    const session = await this.base.fork();
    try {
      return (await session.complete(text, { ...greedy, maxTokens })).usage;
    } finally {
      await session.dispose();
      await this.model.trimCache();
    }
  }

  close() {
    return this.model.dispose();
  }
}
