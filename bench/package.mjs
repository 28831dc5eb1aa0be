// npm run bench -- package: the prebuilds beside the build from source, and what they weigh.
//
//   npm run bench -- package [--rounds N] [--tokens N] [--no-speed] [--output FILE]     --no-speed: sizes and symbols alone
//
// Shape M, decode and prefill, with our kernels and with llama.cpp's, one process per addon, alternated; the build from source is there
// twice, as the control. All addons have to say the same greedy text. Close other work while it runs: it takes some minutes.

import { execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { gzipSync } from 'node:zlib';
import { parseArgs } from 'node:util';

import { ensurePrebuilds, prebuildPath } from '../scripts/prebuild.mjs';
import { ROOT, SetupError, ask } from '../scripts/run.mjs';
import { setUp } from '../scripts/setup.mjs';
import { shapeFile } from './shapes.mjs';

const PREFILL = 256;
const LEAST = 0.95; // of the build from source

export async function benchPackage(args) {
  const { values } = parseArgs({ args, allowNegative: true, options: { speed: { type: 'boolean', default: true }, rounds: { type: 'string', default: '7' }, tokens: { type: 'string', default: '48' }, output: { type: 'string', default: join(ROOT, 'bench', 'results', 'package.json') } } });
  const [rounds, tokens] = [Number(values.rounds), Number(values.tokens)];
  for (const [name, value] of Object.entries({ rounds, tokens })) {
    if (!Number.isInteger(value) || value < 1) throw new SetupError(`--${name} takes a whole number from 1; found ${values[name]}`);
  }
  await setUp();
  await ensurePrebuilds(process.arch);
  const { machine } = await import('../dist/bench/index.js');
  const { addonReport } = await import('../dist/addon.js');
  const { variantsOf, unfitness } = await import('../dist/addon/variants.js');
  const here = addonReport().machine;
  const fit = variantsOf(process.arch).filter((variant) => unfitness(variant, here) === undefined).map(({ name }) => name);
  const source = join(ROOT, 'build', 'Release', 'ternion.node');
  const addons = { source, 'source again': source, ...Object.fromEntries(fit.map((name) => [name, join(ROOT, prebuildPath(process.arch, name))])) };

  const old = existsSync(values.output) ? JSON.parse(readFileSync(values.output, 'utf8')) : {};
  const about = { command: ['npm run bench -- package', ...args].join(' '), commit: ask('git', ['describe', '--always', '--dirty']) ?? 'unknown', date: new Date().toISOString().slice(0, 10), machine: machine() };
  const measured = values.speed ? await compare(addons, fit[0], rounds, tokens, about) : { speed: old.speed, verdicts: old.verdicts ?? [] };
  // The prebuilds of other processors stay as an earlier run left them, if they are not built here.
  const report = { run: about, prebuilds: { ...old.prebuilds, ...weights() }, tarball: tarball(), ...measured };
  mkdirSync(dirname(values.output), { recursive: true });
  writeFileSync(values.output, `${JSON.stringify(report, null, 1)}\n`);
  for (const { what, bar, value, met } of measured.verdicts) console.log(`${what.padEnd(56)} ${value.toFixed(3).padStart(8)}   ${met ? 'meets' : 'MISSES'} ≥ ${bar}`);
  console.log(`written to ${relative(process.cwd(), values.output)}`);
}

async function compare(addons, chosen, rounds, tokens, about) {
  const run = { ...about, loadBefore: loadavg()[0], threads: 2, rounds, tokens, prefill: PREFILL };
  const kernels = {};
  for (const [name, setting] of Object.entries({ ours: '', 'llama.cpp’s': 'upstream' })) {
    kernels[name] = await measure(addons, setting, rounds, { decode: tokens, prefill: PREFILL });
  }
  const verdicts = Object.entries(kernels).flatMap(([name, { ratios }]) =>
    Object.entries(ratios).map(([test, to]) => ({ what: `${chosen} to source, ${test}, ${name} kernels`, bar: LEAST, value: to[chosen].median, met: to[chosen].median >= LEAST })),
  );
  return { speed: { run, kernels }, verdicts };
}

async function measure(addons, kernels, rounds, tests) {
  const { alternate, judged, pairedRatio, summarize } = await import('../dist/bench/index.js');
  const model = await shapeFile('M');
  const children = [];
  try {
    for (const [name, addon] of Object.entries(addons)) {
      const env = { ...process.env, TERNION_ADDON: addon, TERNION_KERNEL: kernels, TERNION_PACK_CACHE: 'off' };
      const child = fork(join(ROOT, 'bench', 'package-child.mjs'), [model, await shapeFile('embedded')], { env });
      children.push({ name, child, about: await answer(child) });
    }
    const [{ about: first }] = children;
    for (const { name, about } of children) {
      if (about.text !== first.text) throw new SetupError(`${name} says something else than the build from source: ${JSON.stringify([about.text, first.text])}`);
    }
    const result = { cpu: Object.fromEntries(children.map(({ name, about }) => [name, about.cpu])), figures: {}, ratios: {} };
    for (const [test, tokens] of Object.entries(tests)) {
      const samples = new Map(children.map(({ name, child }) => [name, async () => {
        child.send({ test, tokens });
        return (await answer(child)).value;
      }]));
      const { values } = await alternate(samples, rounds);
      const to = (name) => pairedRatio(values.get(name), values.get('source'));
      const control = to('source again');
      result.figures[test] = Object.fromEntries([...values].map(([name, all]) => [name, { unit: 'tok/s', ...summarize(all) }]));
      result.ratios[test] = Object.fromEntries([...values.keys()].filter((name) => name !== 'source').map((name) => [name, name === 'source again' ? control : judged(to(name), control)]));
    }
    return result;
  } finally {
    for (const { child } of children) child.kill();
  }
}

async function answer(child) {
  const over = new AbortController();
  const ended = once(child, 'exit', { signal: over.signal }).then(([code]) => { throw new SetupError(`an addon's process ended with ${code}`); });
  ended.catch(() => {}); // the race hears of it, or nobody waits any more
  const [message] = await Promise.race([once(child, 'message'), ended]);
  over.abort();
  return message;
}

/** Bytes, and the newest symbols taken from glibc, of every prebuild that is there. */
function weights() {
  const found = {};
  for (const [arch, variants] of Object.entries({ x64: ['baseline', 'avx512'], arm64: ['baseline', 'dotprod'] })) {
    for (const variant of variants) {
      const path = prebuildPath(arch, variant);
      if (!existsSync(join(ROOT, path))) continue;
      const file = readFileSync(join(ROOT, path));
      found[path] = { bytes: file.length, gzippedBytes: gzipSync(file).length, glibc: newestGlibc(join(ROOT, path)) };
    }
  }
  return found;
}

/** The newest version of glibc that a file takes a symbol from. */
export function newestGlibc(file) {
  const symbols = execFileSync('readelf', ['--dyn-syms', '--wide', file], { encoding: 'utf8', maxBuffer: 1 << 26 });
  const versions = [...symbols.matchAll(/@GLIBC_(2\.\d+)/g)].map(([, version]) => version);
  return versions.sort((a, b) => Number(a.slice(2)) - Number(b.slice(2))).at(-1);
}

function tarball() {
  const [{ size, unpackedSize, files }] = JSON.parse(execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: ROOT, encoding: 'utf8', maxBuffer: 1 << 26, stdio: ['ignore', 'pipe', 'ignore'] }));
  const prebuilds = files.filter(({ path }) => path.startsWith('prebuilds/'));
  return { bytes: size, unpackedBytes: unpackedSize, files: files.length, unpackedBytesWithoutPrebuilds: unpackedSize - prebuilds.reduce((sum, file) => sum + file.size, 0), prebuilds: prebuilds.map(({ path }) => path) };
}
