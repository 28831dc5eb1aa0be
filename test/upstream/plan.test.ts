import { describe, expect, test } from 'vitest';
import { devices, loadModel, plan } from '../../dist/index.js';
import type { Model, Plan } from '../../dist/index.js';
import { planFor } from '../../dist/plan/plan.js';

process.env['GGML_VK_VISIBLE_DEVICES'] = '0'; // lavapipe
const list = await devices();
const gpu = list.find((device) => device.backend === 'vulkan');
// Where a split begins a host buffer, its alignment may be a few bytes more or less.
function expectSame(model: Model, planned: Plan): void {
  expect(planned.weights).toEqual(model.placement.weights);
  expect(planned.memory.map(({ device }) => device)).toEqual(model.placement.devices.map(({ device }) => device));
  for (const [i, part] of model.placement.devices.entries()) {
    const { computeBytes, ...exact } = partsOf(planned.memory[i]!);
    expect(part).toMatchObject(exact);
    expect(Math.abs(part.computeBytes - computeBytes)).toBeLessThanOrEqual(64);
  }
}
const partsOf = ({ device, weightBytes, kvBytes, stateBytes, computeBytes, expertCacheBytes }: Plan['memory'][number]) => ({ device, weightBytes, kvBytes, stateBytes, computeBytes, expertCacheBytes });

describe.skipIf(gpu === undefined)('plans for a GPU', () => {
  const files = ['tern-5m-tq2_0', 'tern-5m-f16', 'tern-moe-6m-tq2_0', 'tern-moe-6m-f16', 'tern-hybrid-random'];
  const settings = [{ context: 512 }, { context: 8192, kv: 'q8_0' }, { context: 2048, sequences: 4, gpuLayers: 2 }] as const;
  for (const file of files) {
    test(`${file}: to the byte, by device, role and layer`, async () => {
      for (const setting of settings) {
        const request = { devices: [gpu!.id], packCache: false, ...setting };
        const planned = await plan(`models/${file}.gguf`, request);
        const model = await loadModel(`models/${file}.gguf`, request);
        expectSame(model, planned);
        expect(planned.memory.map(({ pool }) => pool)).toEqual(['cpu', 'cpu']); // lavapipe's memory is the CPU's
        await model.dispose();
      }
    }, 120_000);
  }

  test('one pool is counted once: what the GPU takes is missing on the CPU', async () => {
    const request = { devices: [gpu!.id], context: 2048, reserve: { hostBytes: 0, deviceBytes: 0 }, cache: { ramBytes: 0 } };
    const { memory } = await plan('models/tern-5m-f16.gguf', request);
    const all = memory.reduce((sum, { bytes }) => sum + bytes, 0);
    const leaving = (bytes: number) => list.map((device) => (device.id === 'cpu' ? { ...device, freeBytes: bytes } : device));
    expect(await planFor('models/tern-5m-f16.gguf', request, leaving(all))).toMatchObject({ fits: true });
    expect(await planFor('models/tern-5m-f16.gguf', request, leaving(all - 1))).toMatchObject({ fits: false, shortages: [{ device: 'cpu', neededBytes: all, availableBytes: all - 1 }] });
  });

  test('a model that fits neither is split where that is allowed, and only there', async () => {
    const file = 'models/tern-5m-f16.gguf';
    const free = (await devices()).find(({ id }) => id === gpu!.id)!.freeBytes;
    const [, whole] = (await plan(file, { devices: [gpu!.id], context: 512 })).memory;
    const reserve = { deviceBytes: free - Math.round(whole!.bytes * 0.8) };
    const request = { devices: [gpu!.id], context: 512, reserve } as const;
    expect((await plan(file, request)).fits).toBe(false);
    const split = await plan(file, { ...request, allowSplit: true });
    expect(split).toMatchObject({ fits: true, devices: [gpu!.id] });
    expect(split.gpuLayers).toBeGreaterThan(0);
    expect(split.gpuLayers).toBeLessThan(split.model.layers + 1);
    expect((await plan(file, { devices: [gpu!.id], context: 512, reserve, gpuLayers: (split.gpuLayers as number) + 1 })).fits).toBe(false);
    const model = await loadModel(file, { plan: split });
    expect(model.placement.gpuLayers).toBe(split.gpuLayers);
    expectSame(model, split);
    await model.dispose();
  });

  test('a GPU that does not compute with the weights is said so', async () => {
    await expect(plan('models/tern-5m-sherry-stq1_0.gguf', { devices: [gpu!.id] })).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED' });
  });
});
