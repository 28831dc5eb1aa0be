// npm run bench -- experts: an expert cache on a device that is held to half of a mixture's experts.
//
//   npm run bench -- experts [--output FILE]
//
// Hit rates beside Belady's optimum, logits beside a context without a cache, bytes moved and the device's limit while routing recurs,
// shifts and is even. On Mesa's lavapipe, whose times say nothing: speed is not measured. A few minutes.

import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { parseArgs, promisify } from 'node:util';

import { ROOT, SetupError, ask } from '../scripts/run.mjs';
import { setUp } from '../scripts/setup.mjs';

const run = promisify(execFile);
const MIXTURE = { architecture: 'qwen3moe', layers: 4, width: 256, feedForward: 256, heads: 4, kvHeads: 2, headSize: 64, vocabulary: 3072, context: 2048, ropeBase: 1e4, epsilon: 1e-6, tied: false, experts: { count: 32, used: 4, feedForward: 128 } };
const TARGETS = { 'recorded routing, half of the experts: hits to Belady’s': ['>=', 0.8], 'logits, largest difference to no cache (float)': ['<=', 1e-3], 'bytes beyond the device’s limit': ['<=', 0] };

export async function benchExperts(args) {
  const { values } = parseArgs({ args, options: { output: { type: 'string', default: join(ROOT, 'bench', 'results', 'experts.json') } } });
  await setUp({ tests: true });
  process.env.GGML_VK_VISIBLE_DEVICES ??= '0'; // lavapipe is left out unless it is named
  process.env.GGML_VK_DISABLE_F16 ??= '1'; // sums in 32 bits, as the CPU's
  const bin = (name, ...given) => run(join(ROOT, '.build', 'cmake', 'bin', name), given, { cwd: ROOT });
  const { devices } = await import('../dist/index.js');
  const { machine } = await import('../dist/bench/index.js');
  const gpu = (await devices()).find(({ backend }) => backend === 'vulkan');
  if (gpu === undefined) throw new SetupError('no Vulkan device here; install Mesa’s lavapipe');
  const folder = mkdtempSync(join(tmpdir(), 'ternion-bench-experts-'));
  try {
    const policy = [...(await bin('expert_policy_test')).stdout.matchAll(/^(.+?) +(\d+) of +(\d+): hits ([\d.]+), Belady ([\d.]+), ratio ([\d.]+); ([\d.]+) exchanges/gm)].map(([, routing, slots, experts, hitRate, belady, ratio, exchangesPerToken]) => ({
      routing, slots: +slots, experts: +experts, hitRate: +hitRate, belady: +belady, ratio: +ratio, exchangesPerToken: +exchangesPerToken,
    }));
    const exactness = [];
    for (const model of ['tern-moe-6m-f16', 'tern-moe-6m-tq2_0']) {
      const [, hits, misses, uploads, bytes, difference] = /(\d+) hits, (\d+) misses, (\d+) uploads of (\d+) bytes, largest difference (\S+)/.exec((await bin('expert_cache_test', join('models', `${model}.gguf`))).stdout);
      exactness.push({ model, hits: +hits, misses: +misses, uploads: +uploads, uploadedBytes: +bytes, largestDifference: +difference });
    }
    const routing = await routed(gpu.id, folder);
    const figures = {
      'recorded routing, half of the experts: hits to Belady’s': policy.find(({ routing: name }) => name === 'recorded, half').ratio,
      'logits, largest difference to no cache (float)': exactness[0].largestDifference,
      'bytes beyond the device’s limit': Math.max(...routing.map(({ peakBytes, limitBytes }) => peakBytes - limitBytes)),
    };
    const verdicts = Object.entries(TARGETS).map(([what, [sign, bar]]) => ({ what, bar: `${sign} ${bar}`, value: figures[what], met: sign === '>=' ? figures[what] >= bar : figures[what] <= bar }));
    const about = { command: ['npm run bench -- experts', ...args].join(' '), commit: ask('git', ['describe', '--always', '--dirty']) ?? 'unknown', machine: machine(), device: `${gpu.description}, ${gpu.driverVersion}` };
    if (!existsSync(dirname(values.output))) mkdirSync(dirname(values.output), { recursive: true });
    writeFileSync(values.output, `${JSON.stringify({ run: about, verdicts, policy, exactness, routing, speed: 'not measured: no GPU with memory of its own' }, null, 1)}\n`);
    for (const { what, bar, value, met } of verdicts) console.log(`${what.padEnd(58)} ${String(value).padStart(12)}   ${met ? 'meets' : 'MISSES'} ${bar}`);
    for (const { kind, hitRate, uploads, uploadedBytes, tokens } of routing) console.log(`${kind.padEnd(12)} hits ${(100 * hitRate).toFixed(1)} %, ${uploads} uploads, ${(uploadedBytes / 2 ** 20).toFixed(1)} MiB in ${tokens} tokens`);
    console.log(`written to ${relative(process.cwd(), values.output)}`);
    if (verdicts.some(({ met }) => !met)) process.exitCode = 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Four layers of 32 experts on a device that is held to what the rest takes and half of them; every kind of routing with a model of its own. */
async function routed(device, folder) {
  const { devices, limitDevice, loadModel, plan } = await import('../dist/index.js');
  const { synthesize } = await import('../dist/gguf/index.js');
  const path = join(folder, 'mixture.gguf');
  await synthesize(path, MIXTURE, { types: { matrices: 'f16', embedding: 'f16' } });
  const beside = { devices: [device], experts: 'cpu', context: 2048 };
  const on = ({ memory }) => memory.find((part) => part.device === device);
  const rest = on(await plan(path, beside)).bytes;
  const half = Math.floor(on(await plan(path, { ...beside, experts: 'gpu' })).weightBytes - on(await plan(path, beside)).weightBytes) / 2;
  const limitBytes = rest + half;
  const figures = [];
  const topic = (token) => ({ maxTokens: 120, temperature: 0, ignoreEos: true, repeatPenalty: 1, logitBias: { [token]: 1000 } });
  const kinds = { recurring: [topic(100), topic(100)], shifting: [100, 900, 1700, 2500].map(topic), even: [{ maxTokens: 480, temperature: 5, seed: 3, ignoreEos: true }] };
  for (const [kind, turns] of Object.entries(kinds)) {
    await limitDevice(device, limitBytes);
    const model = await loadModel(path, { ...beside, expertCache: { deviceBytes: half } });
    for (const turn of turns) {
      const session = await model.session();
      await session.complete('a', turn);
      await session.dispose();
    }
    const { layers, hitRate, uploads, uploadedBytes, deviceBytes } = model.experts;
    const { peakBytes } = (await devices()).find(({ id }) => id === device).limited;
    figures.push({ kind, tokens: layers[0].tokens, hitRate, uploads, uploadedBytes, slots: layers[0].slots, experts: layers[0].experts, slotBytes: deviceBytes[device], limitBytes, peakBytes });
    await model.dispose();
    await limitDevice(device);
  }
  return figures;
}
