import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { devices, loadModel, plan } from '../../dist/index.js';
import type { Plan } from '../../dist/index.js';
import { addon } from '../../dist/addon.js';
import { synthesize } from '../../dist/gguf/index.js';
import { nativeLoadOptions } from '../../dist/native-options.js';
import { modelFacts, stepsOf } from '../../dist/plan/speed.js';

const dense = 'models/tern-5m-tq2_0.gguf';
const moe = 'models/tern-moe-6m-tq2_0.gguf';
const cpu = { devices: ['cpu'], context: 8192 } as const;
const folder = mkdtempSync(join(tmpdir(), 'ternion-speed-'));
let cache = '';

beforeEach(() => {
  cache = mkdtempSync(join(folder, 'cache-'));
  vi.stubEnv('XDG_CACHE_HOME', cache);
});
afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** As if the machine had been quiet, so that what is measured is kept, and quick. */
function measured(unrest = 1) {
  return vi.spyOn(addon(), 'stepTimes').mockImplementation((_, points) => ({
    promise: Promise.resolve({ threads: 1, points: points.map(({ tokens, depth }) => ({ tokens, depth, seconds: 0.001 * tokens ** 0.5 * (1 + depth / 4096), unrest, steps: 5, wholeModel: true })) }),
    cancel: () => undefined,
  }));
}
const files = () => readdirSync(join(cache, 'ternion', 'measured')).filter((name) => name.startsWith('steps-'));

describe('speed in a plan', () => {
  test('is not there until it is measured; then it is, for other contexts too, and the plan loads', async () => {
    expect(await plan(dense, cpu)).not.toHaveProperty('speed');
    const found = await plan(dense, { ...cpu, measure: true });
    const { speed } = found;
    expect(speed).toMatchObject({ basis: 'steps' });
    expect(speed!.depth.map(({ depth }) => depth)).toEqual([0, 4096, 8192]);
    for (const { decodeTokensPerSecond, prefillTokensPerSecond, readBytesPerToken } of speed!.depth) {
      expect(decodeTokensPerSecond).toBeGreaterThan(0);
      expect(prefillTokensPerSecond).toBeGreaterThan(0);
      expect(readBytesPerToken).toBeGreaterThan(500_000);
    }
    expect(JSON.parse(JSON.stringify(found))).toEqual(found);
    for (const again of [JSON.parse(JSON.stringify(found)) as Plan, { ...found, speed: undefined, kernels: undefined }]) { // of before there was speed
      const model = await loadModel(dense, { plan: again });
      await model.dispose();
    }
  }, 60_000);

  test('of weights that are not here yet', async () => {
    const path = join(folder, 'header.gguf');
    await synthesize(path, 'Qwen3-0.6B', { headerOnly: true });
    const { speed } = await plan(path, { devices: ['cpu'], context: 512, measure: true });
    expect(speed).toMatchObject({ basis: 'steps' });
    expect(speed!.decodeTokensPerSecond).toBeLessThan(3000);
    expect(speed!.depth[0]!.readBytesPerToken).toBeGreaterThan(500e6); // 600 M weights in 8 bits
    rmSync(path);
  }, 120_000);

  test('is measured once, and again when asked; other threads, cells and kernels are other measurements', async () => {
    const spy = measured();
    await plan(dense, { ...cpu, measure: true });
    expect((await plan(dense, { ...cpu, context: 512, measure: true })).speed).toMatchObject({ basis: 'steps', decodeTokensPerSecond: 1000 });
    expect(spy).toHaveBeenCalledTimes(1);
    await plan(dense, { ...cpu, measure: 'again' });
    expect(spy).toHaveBeenCalledTimes(2);
    for (const other of [{ threads: 1 }, { kv: 'q8_0' as const }]) await plan(dense, { ...cpu, threads: 2, ...other, measure: true });
    expect(spy.mock.calls.length).toBeGreaterThanOrEqual(4);
    const before = spy.mock.calls.length;
    vi.stubEnv('TERNION_KERNEL', 'upstream');
    await plan(dense, { ...cpu, measure: true });
    expect(spy).toHaveBeenCalledTimes(before + 1);
  });

  test('of another machine, or not to be read, is none', async () => {
    const spy = measured();
    const { threads } = await plan(dense, { ...cpu, measure: true });
    const [name] = files();
    const path = join(cache, 'ternion', 'measured', name!);
    const good = readFileSync(path, 'utf8');
    for (const bad of ['', '{', good.slice(0, -20), good.replace(/"decode": [0-9.e-]+/, '"decode": -1'), good.replace(/"decode": [0-9.e-]+/, '"decode": null'), good.replace(/"depth": \d{2,}/, '"depth": 1'), good.replace('"value"', '"worth"')]) {
      writeFileSync(path, bad);
      expect((await plan(dense, cpu)).speed, bad).toBeUndefined();
    }
    writeFileSync(path, good);
    const placed = await plan(dense, cpu);
    expect(placed.speed).toMatchObject({ basis: 'steps' });
    const known = [...(await devices())];
    const facts = modelFacts(await addon().inspect(dense));
    expect(await stepsOf(placed, facts, {}, known)).toBeDefined();
    expect(await stepsOf(placed, facts, {}, known.map((device) => ({ ...device, description: 'another processor' })))).toBeUndefined();
    expect(await stepsOf({ ...placed, threads: threads + 1 }, facts, {}, known)).toBeUndefined();
    expect(spy).toHaveBeenCalledTimes(1);
  });

  test('that something disturbed is told, not kept', async () => {
    measured(2);
    expect((await plan(dense, { ...cpu, measure: true })).speed).toMatchObject({ disturbed: true });
    expect((await plan(dense, cpu)).speed).toBeUndefined();
  });

  test('without steps, from the bandwidth that was measured', async () => {
    await devices({ measure: true });
    expect((await plan(moe, { devices: ['cpu'], context: 512 })).speed).toBeUndefined(); // a cache holds it
    const path = join(folder, 'large.gguf');
    await synthesize(path, 'Qwen3-8B', { layers: 4, headerOnly: true });
    const { speed } = await plan(path, { devices: ['cpu'], context: 512 });
    rmSync(path);
    expect(speed).toMatchObject({ basis: 'bandwidth', prefillTokensPerSecond: undefined });
    expect(speed!.depth[1]!.decodeTokensPerSecond).toBeLessThan(speed!.decodeTokensPerSecond);
  }, 60_000);

  test('is not measured of what does not fit', async () => {
    const spy = measured();
    const { fits, speed } = await plan(dense, { ...cpu, measure: true, reserve: { hostBytes: 2 ** 50 } });
    expect([fits, speed, spy.mock.calls.length]).toEqual([false, undefined, 0]);
  });

  test('of a model that does not generate there is none, and a reason says so', async () => {
    const { fits, speed, reasons } = await plan('models/tern-embedding-random.gguf', { devices: ['cpu'], context: 512, measure: true });
    expect([fits, speed]).toEqual([true, undefined]);
    expect(reasons).toContainEqual({ code: 'speed', message: expect.stringMatching(/does not generate/) as string });
  });

  test('an abort ends the measurement', async () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error('enough')), 150);
    const begin = performance.now();
    await expect(plan('models/tern-5m-f16.gguf', { ...cpu, measure: 'again', signal: controller.signal })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect(performance.now() - begin).toBeLessThan(2000);
  });

  test('bad requests are refused by name', async () => {
    expect(() => plan(dense, { measure: 1 } as never)).toThrow(/measure must be true, false or 'again'/);
    expect(() => plan.best([])).toThrow(/at least one path/);
    expect(() => plan.best([dense, 5] as never)).toThrow(/paths\[1\]/);
    expect(() => plan.best([dense], { minTokensPerSecond: -1 })).toThrow(/at least 0/);
    expect(() => plan.sweep(moe, { experts: 'cpu' } as never)).toThrow(/experts/);
    await expect(plan.sweep(moe, { devices: ['cpu'] })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG', details: { argument: 'request.devices' } });
    await expect(plan.best([dense, moe], cpu)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG', details: { argument: 'paths', path: moe } });
  });
});

describe('the best of several files', () => {
  test('the one with most bits that fits and is fast enough, and why', async () => {
    vi.spyOn(addon(), 'stepTimes').mockImplementation((options, points) => ({
      promise: Promise.resolve({ threads: 1, points: points.map(({ tokens, depth }) => ({ tokens, depth, seconds: options.path.includes('f16') ? 0.1 : 0.01, unrest: 1, steps: 5, wholeModel: true })) }),
      cancel: () => undefined,
    }));
    const paths = [dense, 'models/tern-5m-f16.gguf'];
    const most = await plan.best(paths, { ...cpu, measure: true });
    expect(most.best!.path).toBe(paths[1]);
    expect(most.best!.bitsPerWeight).toBeGreaterThan(16);
    const fast = await plan.best(paths, { ...cpu, minTokensPerSecond: 50 });
    expect(fast.files.map(({ path }) => path)).toEqual(paths);
    expect(fast.best!.reason).toMatch(/^3\.\d\d bits per weight, 1\.9 MiB: on cpu, 100 tok\/s, at least the 50 that were asked for, kernels: /);
    expect(fast.files[1]!.reason).toMatch(/10\.0 tok\/s, not the 50/);
    expect((await plan.best(paths, { ...cpu, reserve: { hostBytes: 2 ** 50 } })).best).toBeUndefined();
  }, 30_000);
});

describe('models that steps cannot be measured of everywhere', () => {
  test('positions that are learned: no deeper than there are any', async () => {
    const path = join(folder, 'learned.gguf');
    const [width, layers] = [64, 2];
    const layer = (i: number) => ([
      ['attn_norm.weight', [width]], ['attn_norm.bias', [width]], ['attn_qkv.weight', [width, 3 * width]], ['attn_qkv.bias', [3 * width]], ['attn_output.weight', [width, width]], ['attn_output.bias', [width]],
      ['ffn_norm.weight', [width]], ['ffn_norm.bias', [width]], ['ffn_up.weight', [width, 4 * width]], ['ffn_up.bias', [4 * width]], ['ffn_down.weight', [4 * width, width]], ['ffn_down.bias', [width]],
    ] as [string, number[]][]).map(([name, shape]): [string, number[]] => [`blk.${i}.${name}`, shape]);
    const tensors: [string, number[]][] = [['token_embd.weight', [width, 3072]], ['position_embd.weight', [width, 1024]], ['output_norm.weight', [width]], ['output_norm.bias', [width]], ...layer(0), ...layer(1)];
    await addon().synthesize({
      path, tokenizer: dense, vocabulary: 3072, seed: 1, headerOnly: false,
      metadata: [
        { key: 'general.architecture', type: 'str', value: 'gpt2' }, { key: 'gpt2.attention.layer_norm_epsilon', type: 'f32', value: 1e-5 },
        ...Object.entries({ context_length: 1024, embedding_length: width, block_count: layers, feed_forward_length: 4 * width, 'attention.head_count': 1 }).map(([key, value]) => ({ key: `gpt2.${key}`, type: 'u32' as const, value })),
      ],
      tensors: tensors.map(([name, shape]) => ({ name, shape: Int32Array.from(shape), type: 'f32', random: true, value: 0.02 })),
    }, null).promise;
    const { speed } = await plan(path, { devices: ['cpu'], context: 1024, measure: true });
    expect(speed).toMatchObject({ basis: 'steps' });
    await expect(addon().stepTimes(nativeLoadOptions(path, {}, [], await devices(), 1024), [{ tokens: 1, depth: 1024 }], null).promise).rejects.toMatchObject({ code: 'ERR_INVALID_ARG', message: expect.stringMatching(/knows 1024 positions/) as string });
  }, 60_000);

  test('a window that has no room for a step of 512', async () => {
    const path = join(folder, 'window.gguf');
    await synthesize(path, { architecture: 'gpt-oss', layers: 2, width: 256, feedForward: 256, heads: 4, kvHeads: 2, headSize: 64, vocabulary: 3072, context: 8192, ropeBase: 1e4, epsilon: 1e-6, tied: false, window: 128, experts: { count: 4, used: 2, feedForward: 256 } }, { types: { matrices: 'q8_0', embedding: 'q8_0' } });
    for (const ubatch of [64, 16]) expect((await plan(path, { devices: ['cpu'], ubatch, context: 2048, measure: 'again' })).speed).toMatchObject({ basis: 'steps' });
  }, 120_000);
});
