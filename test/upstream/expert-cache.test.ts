import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { synthesize } from '../../dist/gguf/index.js';
import { devices, limitDevice, loadModel, plan } from '../../dist/index.js';
import type { Device, Model } from '../../dist/index.js';
import { planFor } from '../../dist/plan/plan.js';

process.env['GGML_VK_VISIBLE_DEVICES'] = '0'; // lavapipe
process.env['GGML_VK_DISABLE_F16'] = '1'; // sums in 32 bits, as the CPU's
const run = promisify(execFile);
const gpu = (await devices()).find((device) => device.backend === 'vulkan');
const folder = mkdtempSync(join(tmpdir(), 'ternion-expert-cache-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const small = { layers: 4, width: 256, feedForward: 256, heads: 4, kvHeads: 2, headSize: 64, vocabulary: 3072, context: 2048, ropeBase: 1e4, epsilon: 1e-6, tied: false } as const;
const qwen = { ...small, architecture: 'qwen3moe', experts: { count: 32, used: 4, feedForward: 128 } } as const;
const oss = { ...small, architecture: 'gpt-oss', window: 128, experts: { count: 32, used: 4, feedForward: 256 } } as const; // with biases
const file = async (name: string, shape: typeof qwen | typeof oss, types: { matrices: 'f16' | 'f32' }) => {
  const path = join(folder, name);
  await synthesize(path, shape, { types: { embedding: 'f16', ...types } });
  return path;
};
const beside = { devices: [gpu?.id ?? ''], experts: 'cpu', context: 512 } as const;
const bytesOn = (model: Model) => model.placement.devices.find(({ device }) => device === gpu!.id)!;
const sum = (model: Model, rows: 'deviceRows' | 'hostRows') => model.experts!.layers.reduce((all, layer) => all + layer[rows], 0);

describe.skipIf(gpu === undefined)('experts in recent use in device memory', () => {
  test('the family’s mixture, teacher-forced token by token', async () => {
    for (const model of ['models/tern-moe-6m-f16.gguf', 'models/tern-moe-6m-tq2_0.gguf']) expect((await run('.build/cmake/bin/expert_cache_test', [model])).stdout).toMatch(/hits/);
  }, 300_000);

  test('four layers with shared types, and with biases', async () => {
    // Of random weights the router's choices are close: rounded activations would make others.
    const files = [await file('qwen-f32.gguf', qwen, { matrices: 'f32' }), await file('oss-f32.gguf', oss, { matrices: 'f32' })];
    for (const model of files) expect((await run('.build/cmake/bin/expert_cache_test', [model])).stdout).toMatch(/hits/);
  }, 300_000);

  test('what is planned for it is what is taken, and a limit of the device is kept to the byte', async () => {
    const path = await file('limit-f16.gguf', qwen, { matrices: 'f16' });
    const all = await loadModel(path, { ...beside, experts: 'gpu' });
    const experts = all.placement.weights.filter(({ role }) => role === 'experts').reduce((bytes, part) => bytes + part.bytes, 0);
    await all.dispose();
    const list = (cards: readonly Device[]) => cards.map((device): Device => (device.id === gpu!.id ? { ...device, uma: false } : device));
    const whole = await planFor(path, { ...beside, reserve: { deviceBytes: 0 } }, list(await devices()));
    const limit = whole.memory[1]!.bytes + Math.floor(experts / 2);
    await limitDevice(gpu!.id, limit);
    try {
      const card = list(await devices());
      expect(card.find(({ id }) => id === gpu!.id)).toMatchObject({ totalBytes: limit, freeBytes: limit, limited: { limitBytes: limit, allocatedBytes: 0 } });
      const plan = await planFor(path, { devices: beside.devices, context: 512, expertCache: 'auto', reserve: { deviceBytes: 0 } }, card);
      expect(plan).toMatchObject({ fits: true, experts: { cpuLayers: 4 } });
      expect(plan.reasons.at(-1)!.message).toMatch(/those in recent use in/);
      expect(plan.expertCacheBytes).toBeLessThanOrEqual(Math.floor(experts / 2));
      expect(plan.memory[1]!.expertCacheBytes).toBeGreaterThan(0.4 * experts);
      expect(plan.memory[1]!.bytes).toBeLessThanOrEqual(limit);
      const model = await loadModel(path, { plan: JSON.parse(JSON.stringify(plan)) as typeof plan });
      expect(bytesOn(model).expertCacheBytes).toBe(plan.memory[1]!.expertCacheBytes);
      const session = await model.session();
      await session.complete('Once upon a time there was a mouse', { maxTokens: 60, temperature: 1, seed: 5, ignoreEos: true });
      expect(model.experts!.hitRate).toBeGreaterThan(0.2);
      expect(model.experts!.layers.map(({ slots }) => slots)).toEqual(Array(4).fill(model.experts!.layers[0]!.slots));
      const limited = (await devices()).find(({ id }) => id === gpu!.id)!.limited!;
      expect(limited.peakBytes).toBeLessThanOrEqual(limit);
      expect(limited.allocatedBytes).toBeGreaterThan(0.9 * plan.memory[1]!.bytes);
      // The allocator refuses what the plan would have.
      await expect(loadModel(path, { ...beside, expertCache: { deviceBytes: experts } })).rejects.toMatchObject({ code: 'ERR_OUT_OF_MEMORY' });
      expect((await devices()).find(({ id }) => id === gpu!.id)!.limited!.peakBytes).toBeLessThanOrEqual(limit);
      await model.dispose();
      expect((await devices()).find(({ id }) => id === gpu!.id)!.limited!.allocatedBytes).toBe(0);
    } finally {
      await limitDevice(gpu!.id);
    }
    expect((await devices()).find(({ id }) => id === gpu!.id)).not.toHaveProperty('limited');
  }, 120_000);

  test('recurring routing is computed on the device; even routing moves little', async () => {
    const path = await file('routing-f16.gguf', qwen, { matrices: 'f16' });
    const model = await loadModel(path, { ...beside, expertCache: { deviceBytes: 13 * 2 ** 20 }, sequences: 2 });
    try {
      const session = await model.session();
      await session.complete('a', { maxTokens: 160, temperature: 0, ignoreEos: true, repeatPenalty: 1, logitBias: { 100: 1000 } }); // the same token for ever
      const [hits, misses] = [sum(model, 'deviceRows'), sum(model, 'hostRows')];
      expect(hits).toBeGreaterThan(4 * misses);
      await session.dispose();
      const before = model.experts!;
      const other = await model.session();
      await other.complete('a', { maxTokens: 300, temperature: 5, seed: 3, ignoreEos: true }); // any token
      const after = model.experts!;
      const tokens = after.layers[0]!.tokens - before.layers[0]!.tokens;
      expect((after.uploads - before.uploads) / tokens / 4).toBeLessThan(0.5); // per token and layer, the turn to another topic included
      expect(after.uploadedBytes % after.uploads).toBe(0);
      expect(after.layers.every(({ counts, tokens: n }) => counts.reduce((a, b) => a + b, 0) === 4 * n)).toBe(true);
      expect(after.error).toBeUndefined();
    } finally {
      await model.dispose();
    }
  }, 120_000);

  test('a limit that a step reaches is memory that ran out, and all of it comes back', async () => {
    const path = 'models/tern-5m-f16.gguf';
    const request = { devices: beside.devices, context: 512, reserve: { deviceBytes: 0 } };
    await limitDevice(gpu!.id, (await plan(path, request)).memory[1]!.bytes); // and nothing for what Vulkan needs beside
    try {
      const model = await loadModel(path, { plan: await plan(path, request) });
      const session = await model.session();
      const prompt = 'Once upon a time there was a mouse. '.repeat(8);
      await expect(session.complete(prompt, { maxTokens: 5 })).rejects.toMatchObject({ code: 'ERR_OUT_OF_MEMORY' });
      await expect(session.complete(prompt, { maxTokens: 5 })).rejects.toMatchObject({ code: 'ERR_OUT_OF_MEMORY' });
      await model.dispose();
      expect((await devices()).find(({ id }) => id === gpu!.id)!.limited!.allocatedBytes).toBe(0);
    } finally {
      await limitDevice(gpu!.id);
    }
    const again = await loadModel(path, { devices: beside.devices, context: 512 });
    expect((await (await again.session()).complete('Once', { maxTokens: 2 })).usage.generated).toBe(2);
    await again.dispose();
  });

  test('ggml that takes every batch to the device leaves nothing to cache', async () => {
    const child = "const { loadModel } = await import('./dist/index.js'); await loadModel('models/tern-moe-6m-f16.gguf', { devices: [process.argv[1]], experts: 'cpu', expertCache: { deviceBytes: 4194304 } });";
    await expect(run(process.execPath, ['--input-type=module', '-e', child, gpu!.id], { env: { ...process.env, GGML_OP_OFFLOAD_MIN_BATCH: '1' } })).rejects.toMatchObject({ stderr: expect.stringMatching(/GGML_OP_OFFLOAD_MIN_BATCH[^]*ERR_INVALID_ARG/) as string });
  });

  test('unload gives it back, counts it, and it is there again', async () => {
    const path = await file('unload-f16.gguf', qwen, { matrices: 'f16' });
    const model = await loadModel(path, { ...beside, expertCache: { deviceBytes: 13 * 2 ** 20 } });
    const { weightBytes, kvBytes, stateBytes, computeBytes, expertCacheBytes } = bytesOn(model);
    expect(expertCacheBytes).toBeGreaterThan(2 ** 20);
    const { devices: places } = await model.unload();
    expect(places.find(({ device }) => device === gpu!.id)!.bytes).toBe(weightBytes + kvBytes + stateBytes + computeBytes + expertCacheBytes);
    await (await model.session()).complete('Once', { maxTokens: 3 });
    expect(bytesOn(model).expertCacheBytes).toBe(expertCacheBytes);
    await model.dispose();
  }, 60_000);

  test('disposed in the middle of a generation', async () => {
    const path = await file('dispose-f16.gguf', qwen, { matrices: 'f16' });
    for (let i = 0; i < 4; i++) {
      const model = await loadModel(path, { ...beside, expertCache: { deviceBytes: 13 * 2 ** 20 } });
      const generation = (await model.session()).complete('Once', { maxTokens: 400, ignoreEos: true });
      for await (const chunk of generation) if (chunk.type === 'text') break;
      await model.dispose();
      await generation.catch(() => {});
    }
  }, 60_000);

  test('bad requests', async () => {
    const moe = 'models/tern-moe-6m-f16.gguf';
    const refused = (options: object, message: RegExp, path = moe) => expect(Promise.resolve().then(() => loadModel(path, { ...beside, ...options }))).rejects.toMatchObject({ code: 'ERR_INVALID_ARG', message: expect.stringMatching(message) as string });
    await refused({ expertCache: { deviceBytes: 1000 } }, /holds no expert of each layer; \d+ bytes are the least/);
    await refused({ expertCache: { deviceBytes: -1 } }, /expertCache\.deviceBytes/);
    await refused({ expertCache: { bytes: 5 } }, /deviceBytes/);
    await refused({ expertCache: { deviceBytes: 2 ** 24 }, experts: 'gpu' }, /needs routed experts in the CPU's memory/);
    await refused({ expertCache: { deviceBytes: 2 ** 24 } }, /needs routed experts/, 'models/tern-5m-f16.gguf');
    await refused({ expertCache: { deviceBytes: 2 ** 24 }, devices: ['cpu'] }, /needs routed experts/);
    await expect(limitDevice('cpu', 5)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
    await expect(limitDevice('vulkan9', 5)).rejects.toMatchObject({ code: 'ERR_DEVICE_NOT_FOUND' });
    await expect(limitDevice(gpu!.id, -5)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
  });

  test('a plan says why there is no cache', async () => {
    const moe = 'models/tern-moe-6m-f16.gguf';
    const request = { devices: beside.devices, context: 512, expertCache: 'auto', reserve: { deviceBytes: 0 } } as const;
    const found = await planFor(moe, request, await devices());
    expect(found).toMatchObject({ fits: true, experts: 'gpu', expertCacheBytes: 0 });
    expect(found.reasons.map(({ message }) => message)).toContain("no expert cache: no experts lie in the CPU's memory beside a GPU");
    const shared = await planFor(moe, { ...request, experts: 'cpu' }, await devices());
    expect(shared.reasons.map(({ message }) => message)).toContain(`no expert cache: ${gpu!.id} shares the CPU's memory`);
  });
});

describe('routing is counted', () => {
  const ternion = (...args: string[]) => run(process.execPath, ['dist/cli/main.js', ...args]);

  test('on the CPU, without a change to what is generated', async () => {
    const path = 'models/tern-moe-6m-tq2_0.gguf';
    const texts = [];
    for (const countExperts of [false, true]) {
      const model = await loadModel(path, { devices: ['cpu'], countExperts });
      const result = await (await model.session()).complete('Once upon a time', { temperature: 0, maxTokens: 50, ignoreEos: true });
      texts.push(result.text);
      if (countExperts) {
        expect(model.experts).toMatchObject({ uploads: 0, deviceBytes: {}, hitRate: undefined, error: undefined });
        const [layer] = model.experts!.layers;
        expect(layer).toMatchObject({ layer: 3, experts: 16, slots: 0, cached: [] });
        // Of the prompt the last layer computes the last token alone.
        expect(layer!.counts.reduce((a, b) => a + b, 0)).toBe(2 * layer!.tokens);
        expect(layer!.tokens).toBe(50);
      } else {
        expect(model.experts).toBeUndefined();
      }
      await model.dispose();
    }
    expect(texts[0]).toBe(texts[1]);
  });

  test('ternion experts: a map, a picture, and JSON', async () => {
    const prompt = join(folder, 'prompt.txt');
    writeFileSync(prompt, 'Once upon a time there was a little mouse & a <cat>.');
    const svg = join(folder, 'map.svg');
    const { stdout } = await ternion('experts', 'models/tern-moe-6m-tq2_0.gguf', '--prompt', prompt, '--device', 'cpu', '--svg', svg);
    expect(stdout).toMatch(/3 │[ ░▒▓█]{16}│ \d+ tokens, \d+ of 16 do half of the work/);
    const picture = readFileSync(svg, 'utf8');
    expect(picture.match(/<rect/g)).toHaveLength(16);
    expect(picture).toMatch(/^<svg [^>]*>[^]*<\/svg>\n$/);
    const json = JSON.parse((await ternion('experts', 'models/tern-moe-6m-tq2_0.gguf', '--prompt', prompt, '--device', 'cpu', '--json')).stdout) as { experts: { layers: { tokens: number }[] }; generated: number };
    expect(json.experts.layers[0]!.tokens).toBeGreaterThanOrEqual(json.generated);
    await expect(ternion('experts', 'models/tern-5m-tq2_0.gguf', '--prompt', prompt, '--device', 'cpu')).rejects.toMatchObject({ code: 1, stderr: expect.stringMatching(/is no mixture/) as string });
    await expect(ternion('experts', 'models/tern-moe-6m-tq2_0.gguf')).rejects.toMatchObject({ code: 2 });
    await expect(ternion('experts', 'models/tern-moe-6m-tq2_0.gguf', '--prompt', join(folder, 'none.txt'))).rejects.toMatchObject({ code: 2 });
  });
});
