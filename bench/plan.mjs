// npm run bench -- plan: planned bytes beside those of the loaded buffers, and what a plan itself costs.
//
//   npm run bench -- plan [--rounds N] [--output FILE]
//
// Models of every kind that memory is laid out for in its own way, on the CPU and, where it is there, on Mesa's lavapipe. A minute or two.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';

import { ROOT, SetupError, ask } from '../scripts/run.mjs';
import { setUp } from '../scripts/setup.mjs';

const PARTS = ['weightBytes', 'kvBytes', 'stateBytes', 'computeBytes', 'expertCacheBytes'];
const SETTINGS = [
  { context: 512 },
  { context: 4096, kv: 'q8_0' },
  { context: 2048, sequences: 4, kv: { k: 'q8_0', v: 'f16' } },
  { context: 8192, sequences: 4, kv: 'q4_0' },
  { context: 32_768 },
  { context: 32_768, sequences: 4, kvTokens: 40_000, spareSequences: 3, kv: 'q8_0' },
];
// Six layers that see a window to one that sees all.
const WINDOWED = { architecture: 'gemma3', layers: 7, width: 256, feedForward: 1024, heads: 4, kvHeads: 2, headSize: 64, vocabulary: 32_000, context: 32_768, ropeBase: 1e6, epsilon: 1e-6, tied: true, window: 512 };
const model = (name) => join(ROOT, 'models', `${name}.gguf`);
const TARGETS = { 'combinations': ['>=', 30], 'largest deviation of a part, %': ['<=', 3], 'plan of a 60 GB model, ms': ['<', 1000], 'plan of a 60 GB model, peak resident MB': ['<', 200] };

export async function benchPlan(args) {
  const { values } = parseArgs({ args, options: { rounds: { type: 'string', default: '5' }, output: { type: 'string', default: join(ROOT, 'bench', 'results', 'plan.json') } } });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new SetupError(`--rounds takes a whole number from 1; found ${values.rounds}`);
  await setUp({ tests: true });
  process.env.GGML_VK_VISIBLE_DEVICES ??= '0'; // lavapipe is left out unless it is named
  const { devices, loadModel, plan } = await import('../dist/index.js');
  const { machine } = await import('../dist/bench/index.js');
  const { synthesize } = await import('../dist/gguf/index.js');
  const folder = mkdtempSync(join(tmpdir(), 'ternion-bench-plan-'));
  try {
    const windowed = join(folder, 'windowed.gguf');
    await synthesize(windowed, WINDOWED, { types: { matrices: 'q4_0', embedding: 'q8_0' } });
    const files = { 'dense, TQ2_0': model('tern-5m-tq2_0'), 'dense, F16': model('tern-5m-f16'), 'dense, STQ1_0': model('tern-5m-sherry-stq1_0'), 'mixture, TQ2_0': model('tern-moe-6m-tq2_0'), 'mixture, F16': model('tern-moe-6m-f16'), 'hybrid, TQ2_0': model('tern-hybrid-random'), 'sliding window, Q4_0': windowed };
    const gpu = (await devices()).find(({ software }) => software);
    const combinations = [];
    for (const device of ['cpu', ...(gpu ? [gpu.id] : [])]) {
      for (const [name, path] of Object.entries(files)) {
        if (device !== 'cpu' && name.includes('STQ1_0')) continue; // no GPU computes with it
        for (const setting of SETTINGS) {
          const request = { devices: [device], packCache: false, cache: { ramBytes: 0 }, ...setting };
          const planned = await plan(path, request);
          const loaded = await loadModel(path, request);
          combinations.push({ model: name, device: device === 'cpu' ? 'cpu' : `${device} (${gpu.driver})`, ...setting, parts: compare(planned.memory, loaded.placement.devices), weightsEqual: JSON.stringify(planned.weights) === JSON.stringify(loaded.placement.weights) });
          await loaded.dispose();
        }
      }
    }
    const big = await costs(folder, synthesize, rounds);
    const deviation = Math.max(...combinations.flatMap(({ parts }) => parts.map(({ deviationPercent }) => deviationPercent)));
    const figures = { 'combinations': combinations.length, 'largest deviation of a part, %': deviation, 'plan of a 60 GB model, ms': big.medianMs, 'plan of a 60 GB model, peak resident MB': big.peakResidentMB };
    const verdicts = Object.entries(TARGETS).map(([what, [sign, bar]]) => ({ what, bar: `${sign} ${bar}`, value: figures[what], met: sign === '>=' ? figures[what] >= bar : sign === '<=' ? figures[what] <= bar : figures[what] < bar }));
    const run = { command: ['npm run bench -- plan', ...args].join(' '), commit: ask('git', ['describe', '--always', '--dirty']) ?? 'unknown', machine: machine(), lavapipe: gpu ? `${gpu.description}, ${gpu.driverVersion}` : 'not here' };
    if (!existsSync(dirname(values.output))) mkdirSync(dirname(values.output), { recursive: true });
    writeFileSync(values.output, `${JSON.stringify({ run, verdicts, big, combinations }, null, 1)}\n`);
    for (const { what, bar, value, met } of verdicts) console.log(`${what.padEnd(44)} ${String(Math.round(value * 1e4) / 1e4).padStart(10)}   ${met ? 'meets' : 'MISSES'} ${bar}`);
    console.log(`written to ${relative(process.cwd(), values.output)}`);
    if (verdicts.some(({ met }) => !met)) process.exitCode = 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Every part of every device, planned and as it is in the buffers. */
function compare(planned, actual) {
  const ids = [...new Set([...planned, ...actual].map(({ device }) => device))];
  return ids.flatMap((device) => PARTS.map((part) => {
    const [plannedBytes, actualBytes] = [planned, actual].map((list) => list.find((each) => each.device === device)?.[part] ?? 0);
    const most = Math.max(plannedBytes, actualBytes);
    return { device, part, plannedBytes, actualBytes, deviationPercent: most === 0 ? 0 : (100 * Math.abs(plannedBytes - actualBytes)) / most };
  }).filter(({ plannedBytes, actualBytes }) => plannedBytes + actualBytes > 0));
}

/** A plan of 60 GB of which the header alone is here, each in a process of its own: the time of the call, and the most that was resident. */
async function costs(folder, synthesize, rounds) {
  const path = join(folder, 'big.gguf');
  await synthesize(path, 'Qwen3-30B-A3B', { types: { matrices: 'f16' }, headerOnly: true });
  const child = `
    const { plan } = await import(${JSON.stringify(join(ROOT, 'dist', 'index.js'))});
    const begin = performance.now();
    const { memory } = await plan(process.argv[1], { devices: ['cpu'] });
    console.log(JSON.stringify({ ms: performance.now() - begin, residentMB: process.resourceUsage().maxRSS * 1024 / 1e6, weightBytes: memory[0].weightBytes }));`;
  const samples = Array.from({ length: rounds + 1 }, () => JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', child, path], { encoding: 'utf8' }))).slice(1); // the first warms up
  const times = samples.map(({ ms }) => ms).sort((a, b) => a - b);
  return { model: 'Qwen3-30B-A3B in F16, header only', fileBytes: statSync(path).size, weightBytes: samples[0].weightBytes, medianMs: times[times.length >> 1], minMs: times[0], maxMs: times.at(-1), peakResidentMB: Math.max(...samples.map(({ residentMB }) => residentMB)), samples };
}
