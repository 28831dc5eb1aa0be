import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, loadModel, plan } from '../../dist/index.js';
import type { Plan, PlanRequest } from '../../dist/index.js';
import { planFor } from '../../dist/plan/plan.js';
import { synthesize } from '../../dist/gguf/index.js';

const dense = 'models/tern-5m-tq2_0.gguf';
const moe = 'models/tern-moe-6m-tq2_0.gguf';
const hybrid = 'models/tern-hybrid-random.gguf';
const cpu = { devices: ['cpu'] } as const;
const folder = mkdtempSync(join(tmpdir(), 'ternion-plan-'));
const window = join(folder, 'window.gguf');
const big = join(folder, 'big.gguf');
const mebibyte = 2 ** 20;

beforeAll(async () => {
  await synthesize(window, 'Gemma-3-4B', { layers: 7, headerOnly: true }); // five of its layers see a window only
  await synthesize(big, 'Qwen3-30B-A3B', { types: { matrices: 'f16' }, headerOnly: true });
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const partsOf = (memory: Plan['memory'][number]) => {
  const { device, weightBytes, kvBytes, stateBytes, computeBytes, expertCacheBytes } = memory;
  return { device, weightBytes, kvBytes, stateBytes, computeBytes, expertCacheBytes };
};
const cpuOf = ({ memory }: Plan) => memory.find(({ device }) => device === 'cpu')!;
/** A plan on the CPU as if so much were to be had, whatever other programs take meanwhile. */
const planWith = async (bytes: number, path: string, request: PlanRequest) =>
  planFor(path, { ...cpu, ...request, reserve: { hostBytes: 0 } }, (await devices()).map((device) => (device.id === 'cpu' ? { ...device, freeBytes: bytes } : device)));

describe('what a plan says is what a load takes', () => {
  const settings: Omit<PlanRequest, 'experts' | 'expertCache'>[] = [
    { context: 512 },
    { context: 4096, kv: 'q8_0' },
    { context: 2048, sequences: 4, kv: { k: 'q8_0', v: 'f16' }, ubatch: 1000, flashAttention: true },
    { context: 1024, sequences: 3, ubatch: 7, flashAttention: false },
    { context: 32768, kvTokens: 40000, sequences: 4, spareSequences: 3 },
  ];
  const files = { dense, 'dense f16': 'models/tern-5m-f16.gguf', Sherry: 'models/tern-5m-sherry-stq1_0.gguf', mixture: moe, 'mixture f16': 'models/tern-moe-6m-f16.gguf', hybrid, draft: 'models/tern-draft-q8_0.gguf', 'sliding window': window };
  for (const [name, path] of Object.entries(files)) {
    test(`${name}: to the byte, by device, role and layer`, async () => {
      for (const setting of path === window ? settings.slice(1, 4) : settings) { // a gigabyte, to be laid out anew each time
        const planned = await plan(path, { ...cpu, ...setting });
        const model = await loadModel(path, { ...cpu, ...setting, kv: setting.kv as 'f16', context: setting.context as number, packCache: false });
        try {
          expect(planned.memory.map(partsOf)).toEqual(model.placement.devices);
          expect(planned.weights).toEqual(model.placement.weights);
          expect(planned).toMatchObject({ fits: true, context: model.placement.context, kvTokens: model.placement.kvTokens, threads: model.placement.threads, ubatch: model.placement.ubatch, flashAttention: model.placement.flashAttention });
          expect(planned.model).toEqual(model.info);
        } finally {
          await model.dispose();
        }
      }
    }, 60_000);
  }

  test('the process grows by what was planned', () => {
    const child = `
      import { loadModel, plan } from ${JSON.stringify(join(process.cwd(), 'dist/index.js'))};
      import { readFileSync } from 'node:fs';
      const anonymous = () => Number(/^Anonymous: +(\\d+)/m.exec(readFileSync('/proc/self/smaps_rollup', 'utf8'))[1]) * 1024;
      const options = { devices: ['cpu'], context: 16384, packCache: false, cache: { ramBytes: 0 } };
      const small = await loadModel(${JSON.stringify(dense)}, { devices: ['cpu'], context: 256 }); await small.dispose();
      const { memory: [{ weightBytes, kvBytes }] } = await plan(process.argv[1], options);
      const before = anonymous();
      const model = await loadModel(process.argv[1], { ...options, mmap: false });
      console.log(JSON.stringify({ taken: anonymous() - before, planned: weightBytes + kvBytes }));
      await model.dispose();`;
    const { taken, planned } = JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', child, window], { encoding: 'utf8' })) as { taken: number; planned: number };
    expect(planned).toBeGreaterThan(500 * mebibyte);
    expect(taken / planned).toBeGreaterThan(0.97);
    expect(taken / planned).toBeLessThan(1.03);
  }, 60_000);
});

describe('a context between bounds', () => {
  test('is as long as what is left allows, to the step', async () => {
    const found = await planWith(200 * mebibyte, dense, { context: { min: 512, max: 200_000 } });
    const { freeBytes, reserveBytes, bytes, cacheBytes, kvBytes, computeBytes } = cpuOf(found);
    expect(found.fits).toBe(true);
    expect(found.context % 256).toBe(0);
    expect(found.context).toBeGreaterThan(10_000);
    expect(found.context).toBeLessThan(200_000);
    const left = freeBytes - reserveBytes - (bytes - cacheBytes);
    expect(left).toBeGreaterThanOrEqual(0);
    expect(left).toBeLessThan(1.5 * 256 * ((kvBytes + computeBytes) / found.context));
    expect(found.reasons).toContainEqual({ code: 'context', message: expect.stringContaining(`${found.context} tokens`) as string });
  });

  test('is searched where it can be: below the pool, and without laying out what cannot be', async () => {
    expect(await plan(dense, { ...cpu, kvTokens: 1024, context: { min: 256 } })).toMatchObject({ fits: true, context: 1024 });
    const begin = performance.now();
    const found = await planWith(500 * mebibyte, dense, { context: { min: 1, max: 2 ** 31 - 1 }, sequences: 4 });
    expect(found.fits).toBe(true);
    expect(found.context).toBeGreaterThan(20_000);
    expect(found.memory[0]!.bytes).toBeGreaterThan(490 * mebibyte);
    expect(performance.now() - begin).toBeLessThan(2000);
  });

  test('is all of it where there is room, and the shortest where there is not', async () => {
    expect(await plan(dense, { ...cpu, context: { min: 512, max: 3000 } })).toMatchObject({ fits: true, context: 3000 });
    expect(await plan(dense, { ...cpu, context: { min: 512 } })).toMatchObject({ fits: true, context: 2048 }); // the trained one
    const none = await planWith(200 * mebibyte, dense, { context: { min: 100_000, max: 200_000 } });
    expect(none).toMatchObject({ fits: false, context: 100_000, shortages: [{ device: 'cpu' }] });
  });

  test("kv 'auto' takes f16 while it fits, then q8_0", async () => {
    const request = { ...cpu, context: 20_000, kv: 'auto' } as const;
    expect((await plan(dense, request)).kv).toEqual({ k: 'f16', v: 'f16' });
    const { memory: [f16] } = await plan(dense, { ...request, kv: 'f16' });
    const { memory: [q8] } = await plan(dense, { ...request, kv: 'q8_0' });
    const between = (f16!.bytes - f16!.cacheBytes + q8!.bytes - q8!.cacheBytes) / 2;
    const found = await planWith(between, dense, request);
    expect(found).toMatchObject({ fits: true, context: 20_000, kv: { k: 'q8_0', v: 'q8_0' } });
    expect(found.reasons.find(({ code }) => code === 'kv')?.message).toMatch(/q8_0: of f16 the context would not fit/);
  });
});

describe('a plan that does not fit', () => {
  test('says what is missing and what would fit, and is not loaded', async () => {
    const found = await planWith(100 * mebibyte, dense, { context: 100_000 });
    const [short] = found.shortages;
    expect(found.fits).toBe(false);
    expect(short!.device).toBe('cpu');
    expect(short!.neededBytes).toBeGreaterThan(short!.availableBytes);
    const advice = /a context of (\d+) tokens with a KV cache of (\w+) would fit/.exec(found.reasons.at(-1)!.message);
    expect(await planWith(100 * mebibyte, dense, { context: Number(advice![1]), kv: advice![2] as 'f16' })).toMatchObject({ fits: true });
    await expect(loadModel(dense, { plan: found })).rejects.toMatchObject({ code: 'ERR_PLAN_DOES_NOT_FIT', details: { shortages: found.shortages } });
  });

  test('because of the weights alone says so: 60 GB of which the header is here, in a second and 200 MB', () => {
    const child = `
      import { plan } from ${JSON.stringify(join(process.cwd(), 'dist/index.js'))};
      const begin = performance.now();
      const { fits, memory, reasons } = await plan(process.argv[1], { devices: ['cpu'] });
      console.log(JSON.stringify({ fits, memory, reasons, ms: performance.now() - begin, rss: process.resourceUsage().maxRSS * 1024 }));`;
    const found = JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', child, big], { encoding: 'utf8' })) as Plan & { ms: number; rss: number };
    expect(found.memory[0]!.weightBytes).toBeGreaterThan(60e9);
    if (cpuOf(found).freeBytes < 60e9) {
      expect(found.fits).toBe(false);
      expect(found.reasons.at(-1)!.message).toMatch(/not even 256 tokens/);
    }
    expect(found.ms).toBeLessThan(1000);
    expect(found.rss).toBeLessThan(200e6);
  });
});

describe('loading as planned', () => {
  test('a plan goes through JSON, and is followed', async () => {
    const found = JSON.parse(JSON.stringify(await plan(hybrid, { ...cpu, context: 700, sequences: 3, kv: 'q8_0', threads: 1, cache: { ramBytes: 3_000_000, checkpointBytes: 7_000_000 } }))) as Plan;
    expect(found.memory[0]!.cacheBytes).toBe(10_000_000);
    const model = await loadModel(hybrid, { plan: found });
    expect(model.placement).toMatchObject({ context: 700, sequences: 3, kvTokens: 2100, threads: 1, sequenceIds: 3 + found.spareSequences });
    expect(model.placement.devices).toEqual(found.memory.map(partsOf));
    expect(model.cache.ram.budget).toBe(3_000_000);
    expect(model.cache.checkpoints.budget).toBe(7_000_000);
    await model.dispose();
  });

  test('another file, another machine and less memory are refused with the difference', async () => {
    const found = await plan(dense, cpu);
    const refused = (changed: Plan, message: RegExp, path = dense) => expect(loadModel(path, { plan: changed })).rejects.toMatchObject({ code: 'ERR_PLAN_DOES_NOT_FIT', message: expect.stringMatching(message) as string });
    await refused(found, /another model: Tern 5M .* and this is/, moe);
    const [memory] = found.memory;
    await refused({ ...found, memory: [{ ...memory!, description: 'PDP-11' }] }, /another machine: cpu was PDP-11 and is /);
    await refused({ ...found, memory: [memory!, { ...memory!, device: 'vulkan7' }] }, /vulkan7 .* which is not here/);
    await refused({ ...found, memory: [{ ...memory!, reserveBytes: 2 * memory!.totalBytes }] }, /does not fit any more: cpu needs .* and has 0.0 KiB to give/);
  });

  test('a plan that plan() did not make is refused by what is wrong with it', async () => {
    const found = await plan(dense, cpu);
    const wrong: [string, Partial<Record<keyof Plan, unknown>>][] = [
      ['threads', { threads: 1e9 }], ['threads', { threads: -3 }], ['devices', { devices: undefined }], ['devices', { devices: 'cpu' }], ['context', { context: NaN }], ['kv', { kv: null }],
      ['gpuLayers', { gpuLayers: 'most' }], ['experts', { experts: {} }], ['memory[0]', { memory: [null] }], ['memory', { memory: [] }], ['model', { model: undefined }],
      ['ramBytes', { ramBytes: 1e300 }], ['spareSequences', { spareSequences: 1e9 }], ['fits', { fits: 'yes' }], ['allowFallback', { allowFallback: 'weights' }], ['memory[0].kvBytes', { memory: [{ ...found.memory[0], kvBytes: -1 }] }], ['shortages', { fits: false, shortages: undefined }],
    ];
    for (const [argument, change] of wrong) {
      expect(() => loadModel(dense, { plan: { ...found, ...change } as never }), argument).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG', details: { argument: `options.plan.${argument}` } }) as Error);
    }
  });

  test('what a plan decides is not said beside it', async () => {
    const found = await plan(dense, cpu);
    expect(() => loadModel(dense, { plan: found, context: 512 })).toThrow(/options.context is given with options.plan/);
    expect(() => loadModel(dense, { plan: found, allowFallback: true })).toThrow(/options.allowFallback is given with options.plan/);
    expect(() => loadModel(dense, { plan: { ...found, version: 2 } as never })).toThrow(/options.plan.version must be 1/);
    expect(() => loadModel(dense, { plan: found, cache: { ramBytes: 1 } })).toThrow(/options.cache.ramBytes is given with options.plan/);
  });
});

describe('plan.set', () => {
  test('plans models for being there together: the later ones take what is left', async () => {
    const [whole] = (await plan(dense, { ...cpu, context: 20_000, cache: { ramBytes: 0 } })).memory;
    const entry = { path: dense, ...cpu, context: 20_000, reserve: { hostBytes: (await devices())[0]!.freeBytes - 2.5 * whole!.bytes } };
    const three = await plan.set([entry, entry, entry]);
    expect(three.fits).toBe(false);
    expect(three.plans.map(({ fits }) => fits)).toEqual([true, true, false]);
    const [first, second] = three.plans;
    expect(second!.memory[0]!.freeBytes).toBe(first!.memory[0]!.freeBytes - first!.memory[0]!.bytes);
    const models = [await loadModel(dense, { plan: first }), await loadModel(dense, { plan: second })];
    await Promise.all(models.map((model) => model.dispose()));
    const mixed = await plan.set([{ path: moe, ...cpu }, { path: hybrid, ...cpu, context: { min: 256, max: 512 } }]);
    expect(mixed.plans.map(({ model, context }) => [model.architecture, context])).toEqual([['ernie4_5-moe', 2048], ['qwen35', 512]]);
  });

  test('refuses what is no set', async () => {
    expect(() => plan.set([])).toThrow(/at least one/);
    expect(() => plan.set([{ path: dense, contxt: 1 } as never])).toThrow(/did you mean "context"/);
    expect(() => plan.set([{ path: dense, signal: AbortSignal.abort() } as never])).toThrow(/one for all/);
    await expect(plan.set([{ path: dense }], { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  });
});

describe('bad input', () => {
  test('is refused at once, or by the file', async () => {
    expect(() => plan(dense, { contxt: 3 } as never)).toThrow(/did you mean "context"/);
    expect(() => plan(dense, { context: { min: 10, max: 5 } })).toThrow(/max must be at least min \(10\); found 5/);
    expect(() => plan(dense, { context: { min: 0 } })).toThrow(/context.min must be an integer of at least 1; found 0/);
    expect(() => plan(dense, { reserve: { hostBytes: -1 } })).toThrow(/hostBytes must be an integer/);
    expect(() => plan(dense, { cache: { ramBytes: -1 } })).toThrow(/ramBytes must be an integer/);
    expect(() => plan(dense, { kv: 'f8' as never })).toThrow(/'auto', a type of KV cache/);
    expect(() => plan(moe, { experts: { cpuLayers: 2e9 } })).toThrow(/cpuLayers must be an integer from 0 to 1000/);
    for (const pattern of ['(.*.*.*)*z', '(a+)+', '((a|b)c){2}', '(.|.)*z', '(?:(.?)){20}z', '.{0,60}.{0,60}.{0,60}.{0,60}z', '(x)\\1', 'a*b*c*d*', 'a'.repeat(300)]) {
      expect(() => plan(moe, { experts: { overrides: { [pattern]: 'cpu' } } }), pattern).toThrow(/patterns that are matched soon/);
    }
    expect((await plan(moe, { ...cpu, experts: { overrides: { 'blk\\.(\\d+)\\.ffn_(up|down)_exps': 'cpu' } } })).fits).toBe(true);
    await expect(plan(moe, { ...cpu, experts: { overrides: { nothing_like_it: 'cpu' } } })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
    expect(() => plan(dense, { allowFallback: 'weights' as never })).toThrow(/allowFallback must be true, false or 'operations'/);
    expect(() => plan(7 as never)).toThrow(/plan: path/);
    const text = join(folder, 'text.gguf');
    writeFileSync(text, 'no model');
    await expect(plan(text)).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
    await expect(plan(join(folder, 'absent.gguf'))).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_FOUND' });
    await expect(plan(dense, { devices: ['vulkan9'] })).rejects.toMatchObject({ code: 'ERR_DEVICE_NOT_FOUND' });
    await expect(plan(dense, { ...cpu, kvTokens: 10, context: 20 })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
    await expect(plan(dense, { ...cpu, signal: AbortSignal.abort(new Error('no')) })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  });
});
