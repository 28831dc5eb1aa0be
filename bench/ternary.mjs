#!/usr/bin/env node
// npm run bench:ternary: our kernels beside llama.cpp's in whole models, in one process, alternated.
//
//   npm run bench:ternary -- [--part M] [--part S] [--part mixture] [--part load] [--part perplexity] [--rounds N] [--output FILE]
//
// Decoding is judged by the bytes of weights per second over the read bandwidth that is measured right before each sample: the memory of
// some machines changes its speed from minute to minute. Close other work while it runs: it takes about fifteen minutes.

import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';

import { ROOT, SetupError, WORK, ask, main } from '../scripts/run.mjs';
import { setUp } from '../scripts/setup.mjs';

const THREADS = 2;
const TOKENS = 64;
// A mixture whose weights are larger than any cache: 64 experts, of which 8 work on a token.
const MIXTURE = {
  architecture: 'qwen3moe', layers: 12, width: 1024, feedForward: 0, heads: 16, kvHeads: 4, headSize: 64, vocabulary: 32_000, context: 4096, ropeBase: 1e4, epsilon: 1e-6, tied: false,
  experts: { count: 64, used: 8, feedForward: 768 },
};
const MODELS = {
  M: { tq2_0: ['M', { matrices: 'tq2_0' }], tq1_0: ['M', { matrices: 'tq1_0' }], stq1_0: ['M', { matrices: 'stq1_0' }] },
  S: { tq2_0: ['S', { matrices: 'tq2_0' }] },
  mixture: { tq2_0: [MIXTURE, { matrices: 'tq2_0', embedding: 'q8_0' }], stq1_0: [MIXTURE, { matrices: 'stq1_0', embedding: 'q8_0' }] },
};
/** System → model's type and kernels ('' is the default); which systems a test compares, the first with each of the others. */
const SYSTEMS = {
  'tq2_0': ['tq2_0', ''],
  'tq2_0, again': ['tq2_0', ''],
  'stq1_0': ['stq1_0', ''],
  'tq1_0': ['tq1_0', ''],
  'tq2_0, avx2': ['tq2_0', 'avx2'],
  'tq2_0, upstream': ['tq2_0', 'upstream'],
  'tq1_0, upstream': ['tq1_0', 'upstream'],
};
const TESTS = {
  // Prefill first: the cells of sessions that are resident cost attention its time, too.
  M: ['decode', 'prefill 128', 'prefill 512', '2 sessions', '8 sessions', '16 sessions'],
  S: ['decode'],
  mixture: ['decode', 'prefill 128'],
};
const PAIRS = [
  ['tq2_0, again', 'tq2_0'], ['tq2_0', 'tq2_0, upstream'], ['stq1_0', 'tq2_0'], ['tq1_0', 'tq2_0'], ['tq1_0', 'tq1_0, upstream'], ['stq1_0', 'tq2_0, upstream'],
  ['tq2_0, avx2', 'tq2_0, upstream'],
];

async function fileOf(name, type, synthesize) {
  const [shape, types] = MODELS[name][type];
  const path = join(WORK, 'bench', `${name}-${type}.gguf`);
  if (existsSync(path)) return path;
  mkdirSync(join(WORK, 'bench'), { recursive: true });
  await synthesize(path, shape, { types, tokenizer: join(ROOT, 'vendor', 'llama', 'models', 'ggml-vocab-llama-spm.gguf') });
  return path;
}

await main(async (args) => {
  const parts = [...Object.keys(MODELS), 'load', 'perplexity'];
  const { values } = parseArgs({ args, options: { part: { type: 'string', multiple: true, default: parts }, rounds: { type: 'string', default: '5' }, output: { type: 'string', default: join(ROOT, 'bench', 'results', 'ternary.json') } } });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new SetupError(`--rounds takes a whole number from 1; found ${values.rounds}`);
  const unknown = values.part.find((part) => !parts.includes(part));
  if (unknown !== undefined) throw new SetupError(`--part takes ${parts.join(', ')}; found ${unknown}`);
  await setUp({ tests: false });
  const { alternate, machine, pairedRatio, readBandwidth, summarize } = await import('../dist/bench/index.js');
  const { Subject } = await import('../dist/bench/subject.js');
  const { synthesize } = await import('../dist/gguf/index.js');
  const { loadModel } = await import('../dist/index.js');
  const { perplexity } = await import('../dist/quality/index.js');
  const withKernels = async (kernels, work) => {
    process.env.TERNION_KERNEL = kernels;
    try {
      return await work();
    } finally {
      delete process.env.TERNION_KERNEL;
    }
  };
  // Parts that are not measured now keep what an earlier run says of them, with its commit and date.
  const report = existsSync(values.output) ? JSON.parse(readFileSync(values.output, 'utf8')) : { models: {} };
  const run = { command: 'npm run bench:ternary', commit: ask('git', ['describe', '--always', '--dirty']) ?? 'unknown', date: new Date().toISOString().slice(0, 10), machine: machine(), threads: THREADS, rounds };

  for (const name of Object.keys(MODELS).filter((each) => values.part.includes(each))) {
    const subjects = new Map();
    for (const [system, [type, kernels]] of Object.entries(SYSTEMS)) {
      if (!(type in MODELS[name])) continue;
      const texts = new Map(); // greedy text is the same in all samples of a system
      const path = await fileOf(name, type, synthesize);
      const open = () => Subject.open(path, { devices: ['cpu'], threads: THREADS, context: 1024, sequences: name === 'M' ? 16 : 1, texts });
      subjects.set(system, { path, texts, subject: await withKernels(kernels, open) });
    }
    const result = { run, files: Object.fromEntries([...subjects].map(([system, { path, subject }]) => [system, { bytes: statSync(path).size, kernels: subject.model.placement.kernels }])), figures: {}, ratios: {} };
    for (const test of TESTS[name]) {
      const bandwidth = new Map([...subjects.keys()].map((system) => [system, []]));
      const samples = new Map([...subjects].map(([system, { subject, texts }]) => [system, async () => {
        texts.clear(); // another test may have computed the first token in another batch
        if (test === 'decode') {
          bandwidth.get(system).push((await readBandwidth(THREADS)) / 1e9);
          return subject.decodeInEngine(name === 'S' ? 512 : TOKENS);
        }
        const n = Number(test.match(/\d+/)[0]);
        return test.startsWith('prefill') ? subject.prefill(n) : subject.together(n, 32);
      }]));
      const { values: found } = await alternate(samples, rounds, { onSample: (fraction) => process.stderr.write(`\r${name} ${test} ${(100 * fraction).toFixed(0)} %   `) });
      const perBandwidth = new Map([...found].map(([system, all]) => [system, test === 'decode' ? all.map((value, i) => value / bandwidth.get(system).slice(1)[i]) : all]));
      result.figures[test] = Object.fromEntries([...found].map(([system, all]) => [system, { unit: 'tok/s', ...summarize(all), ...(test === 'decode' && { bandwidth: summarize(bandwidth.get(system).slice(1)) }) }]));
      result.ratios[test] = PAIRS.filter(([a, b]) => found.has(a) && found.has(b)).map(([a, b]) => ({ of: a, to: b, paired: test === 'decode' ? 'tokens per byte that memory could read' : 'by round', ...pairedRatio(perBandwidth.get(a), perBandwidth.get(b)) }));
      if (test === 'decode' && name !== 'mixture') {
        // What a token reads: everything but the embedding, of which one row is looked up.
        result.shareOfBandwidth = Object.fromEntries([...perBandwidth].map(([system, all]) => [system, summarize(all.map((value) => (value * weightBytes(name, SYSTEMS[system][0])) / 1e9))]));
      }
    }
    for (const { subject } of subjects.values()) await subject.close();
    report.models[name] = result;
  }
  if (values.part.includes('load')) report.load = { run, ...(await loads()) };
  if (values.part.includes('perplexity')) report.perplexity = { run, ...(await perplexities()) };
  process.stderr.write('\r\x1b[K');
  mkdirSync(dirname(values.output), { recursive: true });
  writeFileSync(values.output, `${JSON.stringify(report, null, 1)}\n`);
  print(report);
  console.log(`\n${relative(process.cwd(), values.output)}`);

  function weightBytes(name, type) {
    const s = name === 'M' ? { layers: 16, width: 2048, feedForward: 8192, kv: 512, vocabulary: 32_000 } : { layers: 4, width: 256, feedForward: 768, kv: 128, vocabulary: 32_000 };
    const ternary = s.layers * (2 * s.width * s.width + 2 * s.width * s.kv + 3 * s.width * s.feedForward);
    return (ternary / 256) * { tq2_0: 66, tq1_0: 66, stq1_0: 42 }[type] + ((s.vocabulary * s.width) / 32) * 34; // as they lie in memory
  }

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
