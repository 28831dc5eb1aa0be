import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { addon } from '../../dist/addon.js';
import { synthesize } from '../../dist/gguf/index.js';
import { devices, plan } from '../../dist/index.js';

process.env['GGML_VK_VISIBLE_DEVICES'] = '0'; // lavapipe
const folder = mkdtempSync(join(tmpdir(), 'ternion-sweep-'));
process.env['XDG_CACHE_HOME'] = folder;
const gpu = (await devices()).find((device) => device.backend === 'vulkan');
const mixture = join(folder, 'mixture.gguf');
const on = { devices: [gpu?.id ?? ''], context: 512, cache: { ramBytes: 0 } };
const layers = 5;

beforeAll(async () => {
  await synthesize(mixture, {
    architecture: 'qwen3moe', layers, width: 256, feedForward: 0, heads: 4, kvHeads: 2, headSize: 64, vocabulary: 3072, context: 4096, ropeBase: 1e4, epsilon: 1e-6, tied: false,
    experts: { count: 16, used: 2, feedForward: 128 },
  }, { types: { matrices: 'q4_0', embedding: 'q8_0' }, headerOnly: true });
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.skipIf(gpu === undefined)('a sweep of experts beside a GPU', () => {
  test('moves their bytes, layer by layer, and says which is the first that fits', async () => {
    const { rows, chosen, model } = await plan.sweep(mixture, on);
    expect(model.experts).toBe(16);
    expect(rows.map(({ cpuLayers }) => cpuLayers)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(chosen).toBe(0);
    const weights = (device: string) => rows.map(({ memory }) => memory.find((part) => part.device === device)!.weightBytes);
    const [cpu, card] = [weights('cpu'), weights(gpu!.id)];
    for (let i = 1; i < rows.length; i++) {
      expect(cpu[i]).toBeGreaterThan(cpu[i - 1]!);
      expect(card[i]).toBeLessThan(card[i - 1]!);
    }
    expect(rows.every(({ speed }) => speed === undefined)).toBe(true);
    const room = gpu!.freeBytes - rows[3]!.memory.find(({ device }) => device === gpu!.id)!.bytes;
    const short = await plan.sweep(mixture, { ...on, reserve: { deviceBytes: room - 65_536 } }); // the pool is this machine's, and never still
    expect(short.rows.map(({ fits }) => fits).indexOf(true)).toBe(short.chosen ?? -1);
  }, 60_000);

  test('speeds are those of steps with all on either side, and on a line between', async () => {
    const real = addon().stepTimes.bind(addon());
    // lavapipe takes half a minute for 512 tokens
    vi.spyOn(addon(), 'stepTimes').mockImplementation((options, points, progress) => {
      const task = real(options, points.map(({ tokens, depth }) => ({ tokens: Math.min(tokens, 8), depth: Math.min(depth, 256) })), progress);
      return { cancel: () => task.cancel(), promise: task.promise.then((times) => ({ ...times, points: times.points.map((time, i) => ({ ...time, ...points[i]! })) })) };
    });
    const { rows } = await plan.sweep(mixture, { ...on, measure: 'again' });
    const seconds = rows.map(({ speed }) => 1 / speed!.decodeTokensPerSecond);
    const step = (seconds.at(-1)! - seconds[0]!) / layers;
    seconds.forEach((each, i) => expect(each).toBeCloseTo(seconds[0]! + i * step, 9));
    expect(rows[0]!.speed).toMatchObject({ basis: 'steps' });
    expect(rows[0]!.speed!.prefillTokensPerSecond).toBeGreaterThan(0);
  }, 120_000);

  test('needs experts', async () => {
    await expect(plan.sweep('models/tern-5m-f16.gguf', on)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG', details: { argument: 'path' } });
  });
});
