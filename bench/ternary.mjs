#!/usr/bin/env node
// npm run bench:ternary: our kernels beside llama.cpp's in whole models, in one process, alternated.
//
//   npm run bench:ternary -- [--part M] [--part S] [--part mixture] [--part load] [--part perplexity] [--rounds N] [--output FILE]
//                            [--fork NAME=PROGRAM:MODEL]     a fork's llama-bench with a model of shape M in a type of its own
//
// Decoding from memory is judged by the bytes of weights per second over the read bandwidth that is measured right before each sample: the memory of
// some machines changes its speed from minute to minute. Close other work while it runs: it takes about fifteen minutes.

import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';

import { ROOT, SetupError, ask, main } from '../scripts/run.mjs';
import { setUp } from '../scripts/setup.mjs';
import { MODELS, PAIRS, THREADS, fileOf, openSystems, withKernels } from './ternary-systems.mjs';

const TOKENS = 64;
const TESTS = {
  // Prefill first: the cells of sessions that are resident cost attention its time, too.
  M: ['decode', 'prefill 128', 'prefill 512', '2 sessions', '8 sessions', '16 sessions'],
  S: ['decode'],
  mixture: ['decode', 'prefill 128'],
};
await main(async (args) => {
  const parts = [...Object.keys(MODELS), 'load', 'perplexity'];
  const { values } = parseArgs({ args, options: { part: { type: 'string', multiple: true, default: parts }, rounds: { type: 'string', default: '5' }, output: { type: 'string', default: join(ROOT, 'bench', 'results', 'ternary.json') }, fork: { type: 'string', multiple: true, default: [] } } });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new SetupError(`--rounds takes a whole number from 1; found ${values.rounds}`);
  const unknown = values.part.find((part) => !parts.includes(part));
  if (unknown !== undefined) throw new SetupError(`--part takes ${parts.join(', ')}; found ${unknown}`);
  await setUp({ tests: true });
  const { alternate, machine, pairedRatio, readBandwidth, summarize } = await import('../dist/bench/index.js');
  const { synthesize } = await import('../dist/gguf/index.js');
  const { loadModel } = await import('../dist/index.js');
  const { perplexity } = await import('../dist/quality/index.js');
  // Parts that are not measured now keep what an earlier run says of them, with its commit and date.
  const report = existsSync(values.output) ? JSON.parse(readFileSync(values.output, 'utf8')) : { models: {} };
  const run = { command: 'npm run bench:ternary', commit: ask('git', ['describe', '--always', '--dirty']) ?? 'unknown', date: new Date().toISOString().slice(0, 10), machine: machine(), threads: THREADS, rounds };

  for (const name of Object.keys(MODELS).filter((each) => values.part.includes(each))) {
    const systems = await openSystems(name, synthesize, values.fork);
    const pairs = [...PAIRS, ...values.fork.map((fork) => ['tq2_0', fork.split('=')[0]])];
    const result = { run, files: Object.fromEntries([...systems].map(([system, { facts }]) => [system, facts])), figures: {}, ratios: {} };
    for (const test of TESTS[name]) {
      const n = Number(/\d+/.exec(test)?.[0]);
      const kind = test === 'decode' ? 'decode' : test.startsWith('prefill') ? 'prefill' : 'together';
      const able = [...systems].filter(([, system]) => kind in system);
      const bandwidth = new Map(able.map(([system]) => [system, []]));
      const samples = new Map(able.map(([system, run]) => [system, async () => {
        if (kind === 'prefill') return run.prefill(n);
        if (kind === 'together') return run.together(n, 32);
        bandwidth.get(system).push((await readBandwidth(THREADS)) / 1e9);
        return run.decode(name === 'S' ? 512 : TOKENS);
      }]));
      const { values: found } = await alternate(samples, rounds, { onSample: (fraction) => process.stderr.write(`\r${name} ${test} ${(100 * fraction).toFixed(0)} %   `) });
      const read = (system) => bandwidth.get(system).slice(1); // the first sample warms up
      const streams = kind === 'decode' && name !== 'S'; // the weights of S stay in the last-level cache
      const compared = new Map([...found].map(([system, all]) => [system, streams ? all.map((value, i) => value / read(system)[i]) : all]));
      result.figures[test] = Object.fromEntries([...found].map(([system, all]) => [system, { unit: 'tok/s', ...summarize(all), ...(kind === 'decode' && { bandwidth: summarize(read(system)) }) }]));
      result.ratios[test] = pairs.filter(([a, b]) => found.has(a) && found.has(b)).map(([a, b]) => ({ of: a, to: b, paired: streams ? 'tokens per byte that memory could read' : 'by round', ...pairedRatio(compared.get(a), compared.get(b)) }));
      if (streams) {
        const known = [...compared].filter(([system]) => name !== 'mixture' && systems.get(system).tokenBytes > 0);
        result.shareOfBandwidth = Object.fromEntries(known.map(([system, all]) => [system, summarize(all.map((value) => (value * systems.get(system).tokenBytes) / 1e9))]));
      }
    }
    for (const system of systems.values()) await system.close();
    report.models[name] = result;
  }
  if (values.part.includes('load')) report.load = { run, ...(await loads()) };
  if (values.part.includes('perplexity')) report.perplexity = { run, ...(await perplexities()) };
  process.stderr.write('\r\x1b[K');
  mkdirSync(dirname(values.output), { recursive: true });
  writeFileSync(values.output, `${JSON.stringify(report, null, 1)}\n`);
  print(report);
  console.log(`\n${relative(process.cwd(), values.output)}`);

  /** Milliseconds of loads of M: upstream's by reading and by mapping, ours with packing and from a pack. */
  async function loads() {
    const path = await fileOf('M', 'tq2_0', synthesize);
    const folder = join(tmpdir(), `ternion-bench-packs-${process.pid}`);
    const timed = (kernels, options) => () => withKernels(kernels, async () => {
      const start = performance.now();
      const model = await loadModel(path, { devices: ['cpu'], context: 256, ...options });
      const took = performance.now() - start;
      if (options.packCache !== false) await until(() => existsSync(folder) && readdirSync(folder).some((name) => name.endsWith('.pack')));
      await model.dispose();
      return took;
    });
    const until = async (done) => { for (let i = 0; i < 200 && !done(); i++) await new Promise((resolve) => setTimeout(resolve, 50)); };
    await timed('', { packCache: { folder } })(); // writes it
    const systems = new Map([
      ['upstream, read', timed('upstream', { mmap: false, packCache: false })],
      ['upstream, mapped', timed('upstream', { packCache: false })],
      ['packing', timed('', { packCache: false })],
      ['from a pack', timed('', { packCache: { folder } })],
    ]);
    const { values: found } = await alternate(systems, rounds, {});
    rmSync(folder, { recursive: true, force: true });
    return {
      figures: Object.fromEntries([...found].map(([system, all]) => [system, { unit: 'ms', ...summarize(all) }])),
      ratios: [['packing', 'upstream, read'], ['from a pack', 'upstream, mapped']].map(([a, b]) => ({ of: a, to: b, ...pairedRatio(found.get(a), found.get(b)) })),
    };
  }

  async function perplexities() {
    // Stories that the model was not trained on.
    const heldOut = join(ROOT, 'models', 'recipe', 'heldout');
    const rows = readdirSync(heldOut).filter((name) => name.endsWith('.jsonl')).flatMap((name) => readFileSync(join(heldOut, name), 'utf8').trim().split('\n'));
    const text = rows.map((row) => JSON.parse(row).prompt).join('\n');
    const of = (kernels) => withKernels(kernels, async () => {
      const model = await loadModel(join(ROOT, 'models', 'tern-5m-tq2_0.gguf'), { devices: ['cpu'], context: 512, threads: THREADS });
      const { perplexity: value, standardError } = await perplexity(model, text);
      await model.dispose();
      return { perplexity: value, standardError };
    });
    return { ours: await of(''), upstream: await of('upstream') };
  }
});

function print({ models, load, perplexity }) {
  for (const [name, { ratios, shareOfBandwidth }] of Object.entries(models)) {
    for (const [system, share] of Object.entries(shareOfBandwidth ?? {})) console.log(`${name.padEnd(8)} decode       ${system.padEnd(22)} of read bandwidth       ${range(share)}`);
    for (const [test, all] of Object.entries(ratios)) for (const ratio of all) console.log(`${name.padEnd(8)} ${test.padEnd(12)} ${ratio.of.padEnd(22)} to ${ratio.to.padEnd(20)} ${range(ratio)}`);
  }
  for (const ratio of load?.ratios ?? []) console.log(`M        load         ${ratio.of.padEnd(22)} to ${ratio.to.padEnd(20)} ${range(ratio)}`);
  if (perplexity) console.log(`perplexity of the embedded model: ${perplexity.ours.perplexity.toFixed(4)} with our kernels, ${perplexity.upstream.perplexity.toFixed(4)} with upstream's, standard error ${perplexity.ours.standardError.toFixed(4)}`);
}

function range({ median, min, max }) {
  return `${median.toFixed(2)} (${min.toFixed(2)} to ${max.toFixed(2)})`;
}
