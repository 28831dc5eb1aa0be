// What a GPU refuses: said before anything runs, and left to the CPU by those who allow it only. Lavapipe addresses 128 MiB at once.
import { describe, expect, test } from 'vitest';
import { devices, loadModel, plan } from '../../dist/index.js';
import type { Plan } from '../../dist/index.js';
import { defaultFallback } from '../../dist/devices.js';

process.env['GGML_VK_VISIBLE_DEVICES'] = '0';
const gpu = (await devices()).find((device) => device.backend === 'vulkan');
const dense = 'models/tern-5m-f16.gguf';
const mixture = 'models/tern-moe-6m-tq2_0.gguf';
const sherry = 'models/tern-5m-sherry-stq1_0.gguf';

describe.skipIf(gpu === undefined)('operations that a GPU refuses', () => {
  const on = { devices: [gpu?.id ?? ''], cache: { ramBytes: 0 } };
  const long = { ...on, context: 140_000 }; // the mask of 512 tokens is longer than what it addresses
  const refused = [{ operation: 'FLASH_ATTN_EXT', types: 'f32 × f16 → f32', device: on.devices[0], weight: '', layer: 0, count: 5 }];

  test('are an error that lists them, of a load and of a plan', async () => {
    const error = { code: 'ERR_MODEL_UNSUPPORTED', details: { device: gpu!.id, operations: 'FLASH_ATTN_EXT (f32 × f16 → f32, 5 in a graph, from layer 0 on)' }, message: expect.stringMatching(/refuses FLASH_ATTN_EXT .* so the CPU would compute that/) as string };
    await expect(loadModel(dense, long)).rejects.toMatchObject(error);
    await expect(plan(dense, long)).rejects.toMatchObject(error);
    await expect(loadModel(dense, { ...long, allowFallback: false })).rejects.toMatchObject(error);
  }, 60_000);

  test.each([true, 'operations'] as const)('are computed by the CPU and listed with allowFallback %s', async (allowFallback) => {
    const planned = JSON.parse(JSON.stringify(await plan(dense, { ...long, allowFallback }))) as Plan;
    expect(planned).toMatchObject({ fits: true, allowFallback, refused });
    expect(planned.reasons.filter(({ code }) => code === 'fallback')).toHaveLength(1);
    const model = await loadModel(dense, { plan: planned }); // which says so itself
    expect(model.placement.refused).toEqual(refused);
    const session = await model.session();
    const { text } = await session.complete('Once upon a time', { maxTokens: 8, temperature: 0 });
    await model.dispose();
    const short = await loadModel(dense, { ...on, context: 512 });
    expect((await (await short.session()).complete('Once upon a time', { maxTokens: 8, temperature: 0 })).text).toBe(text);
    await short.dispose();
  }, 120_000);

  test('a context as long as can be ends before them, and before what ended the process', async () => {
    const found = await plan(dense, { ...on, context: { min: 512, max: 1_000_000 }, reserve: { hostBytes: 0, deviceBytes: 0 } });
    expect(found).toMatchObject({ fits: true, context: 131_072, refused: [] }); // 2 bytes of mask for each of 512 tokens
    await expect(loadModel(dense, { ...on, context: 300_000, allowFallback: true })).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED', message: expect.stringContaining('at once, which layer 0 of a KV cache of 300000 cells') as string });
  }, 120_000);

  test('a device that the environment names was named; nobody’s choice may leave operations to the CPU', async () => {
    expect(defaultFallback(undefined, undefined)).toBe('operations');
    expect([defaultFallback(['vulkan0'], undefined), defaultFallback(undefined, 'vulkan0')]).toEqual([false, false]);
    process.env['TERNION_DEVICES'] = gpu!.id;
    try {
      await expect(loadModel(dense, { context: 140_000 })).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED' });
    } finally {
      delete process.env['TERNION_DEVICES'];
    }
  }, 60_000);

  test('what runs on the CPU on purpose is no fallback: embeddings, experts, layers that were not asked for', async () => {
    for (const setting of [{}, { experts: 'cpu' }, { experts: { cpuLayers: 1 } }, { gpuLayers: 2 }, { gpuLayers: 1 }] as const) {
      const model = await loadModel(mixture, { ...on, context: 512, ...setting });
      expect(model.placement.refused).toEqual([]);
      expect(model.placement.devices.find(({ device }) => device === 'cpu')!.weightBytes).toBeGreaterThan(0);
      await model.dispose();
    }
  }, 120_000);
});

describe.skipIf(gpu === undefined)('weights that a GPU does not compute with', () => {
  const on = { devices: [gpu?.id ?? ''], context: 512 };

  test.each([undefined, false, 'operations'] as const)('are an error with allowFallback %s', async (allowFallback) => {
    await expect(loadModel(sherry, { ...on, allowFallback })).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED', details: { device: gpu!.id, type: 'stq1_0' } });
  });

  test('are the CPU’s with allowFallback true, and the operations with them listed', async () => {
    const model = await loadModel(sherry, { ...on, allowFallback: true });
    expect(model.placement.refused).toEqual([{ operation: 'MUL_MAT', types: 'stq1_0 × f32 → f32', device: gpu!.id, weight: expect.stringMatching(/^blk\.0\./) as string, layer: 0, count: 35 }]);
    const matrices = model.placement.weights.filter(({ role }) => role === 'ffn');
    expect(matrices.some(({ device, bytes }) => device === 'cpu' && bytes > 50_000)).toBe(true);
    expect((await (await model.session()).complete('Once upon a time', { maxTokens: 8, temperature: 0 })).text.length).toBeGreaterThan(0);
    await model.dispose();
  }, 60_000);
});
