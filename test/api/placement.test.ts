// Planned against actual, and what the system says of it.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, loadModel, onLog, plan } from '../../dist/index.js';
import type { Placement, Plan } from '../../dist/index.js';
import { placementOf } from '../../dist/placement.js';
import { synthesize } from '../../dist/gguf/index.js';

const dense = 'models/tern-5m-tq2_0.gguf';
const cpu = { devices: ['cpu'], context: 512, packCache: false } as const;
const folder = mkdtempSync(join(tmpdir(), 'ternion-placement-'));
const big = join(folder, 'big.gguf');
const mebibyte = 2 ** 20;

beforeAll(() => synthesize(big, 'Gemma-3-4B', { layers: 7, headerOnly: true }));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('planned against actual', () => {
  test('is in the result: the same bytes, no difference', async () => {
    const found = await plan(dense, cpu);
    const model = await loadModel(dense, { plan: found, packCache: false });
    expect(model.placement.planned).toEqual(model.placement.devices);
    expect(model.placement.differences).toEqual([]);
    await model.dispose();
    const without = await loadModel(dense, cpu);
    expect(without.placement).not.toHaveProperty('planned');
    await without.dispose();
  });

  test('more than 3 % apart is a warning with both numbers, by part', async () => {
    const found = await plan(dense, { ...cpu, context: 8192 });
    const [memory] = found.memory;
    const wrong = (share: number): Plan => ({ ...found, memory: [{ ...memory!, kvBytes: Math.round(memory!.kvBytes * share) }] });
    const lines: string[] = [];
    const stop = onLog('warn', ({ message }) => lines.push(message));
    try {
      const near = await loadModel(dense, { plan: wrong(1.02), packCache: false });
      expect(near.placement.differences).toEqual([]);
      await near.dispose();
      const far = await loadModel(dense, { plan: wrong(1.1), packCache: false });
      const [expectedBytes, actualBytes] = [Math.round(memory!.kvBytes * 1.1), memory!.kvBytes];
      expect(far.placement.differences).toEqual([{ device: 'cpu', part: 'kvBytes', expectedBytes, actualBytes, source: 'buffers', message: expect.stringMatching(new RegExp(`KV cache on cpu: .* were planned, there are .*\\(${expectedBytes} and ${actualBytes} bytes\\)`)) as string }]);
      await far.dispose();
      expect(lines.filter((line) => line.includes('KV cache on cpu'))).toEqual([`${dense}: ${far.placement.differences[0]!.message}`]);
    } finally {
      stop();
    }
  });
});

describe.skipIf(process.platform !== 'linux')('what the system says was taken', () => {
  test('is what is in the buffers, within 3 %', () => {
    const child = `
      import { loadModel } from ${JSON.stringify(join(process.cwd(), 'dist/index.js'))};
      const model = await loadModel(process.argv[1], { devices: ['cpu'], context: 16384, packCache: false, cache: { ramBytes: 0 }, mmap: false });
      console.log(JSON.stringify(model.placement));
      await model.dispose();`;
    const { taken, devices: [place], differences } = JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', child, big], { encoding: 'utf8' })) as Placement;
    expect(taken).toMatchObject([{ device: 'cpu', source: 'process' }]);
    expect(differences).toEqual([]);
    const buffers = place!.weightBytes + place!.kvBytes;
    expect(buffers).toBeGreaterThan(900 * mebibyte);
    expect(taken[0]!.bytes / buffers).toBeGreaterThan(0.97);
    expect(taken[0]!.bytes / buffers).toBeLessThan(1.1); // a vocabulary of 262,208 words, and what a first load brings
  }, 60_000);

  test('is said of nobody who loads while others do', async () => {
    const models = await Promise.all([loadModel(dense, cpu), loadModel(dense, cpu)]);
    for (const { placement } of models) expect(placement).toMatchObject({ taken: [], differences: [] });
    await Promise.all(models.map((model) => model.dispose()));
    const alone = await loadModel(dense, cpu);
    expect(alone.placement.taken).toHaveLength(1);
    await alone.dispose();
  });
});

// The figures of a machine with a GPU of its own memory, and of a board whose memory is the CPU's.
describe('a system that says otherwise', async () => {
  const [host] = await devices();
  const gpu = { ...host!, id: 'vulkan0', kind: 'gpu', backend: 'vulkan' } as const;
  const gibibyte = 2 ** 30;
  const place = (device: string, weightBytes: number) => ({ device, weightBytes, kvBytes: gibibyte, stateBytes: 0, computeBytes: gibibyte / 2, expertCacheBytes: 0 });
  const on = (taken: Placement['taken'], ...list: Placement['devices']) => placementOf({ devices: list, taken } as unknown as Placement, undefined, [host!, gpu]).differences;
  const held = (device: string, source: 'process' | 'fdinfo' | 'sysfs', bytes: number, fileBytes = 0) => ({ device, source, bytes, fileBytes });

  test('a GPU that has less than it was given: the driver put it elsewhere', () => {
    const whole = place('vulkan0', 4 * gibibyte);
    expect(on([held('vulkan0', 'fdinfo', 5.5 * gibibyte)], whole)).toEqual([]);
    expect(on([held('vulkan0', 'fdinfo', 5.36 * gibibyte)], whole)).toEqual([]);
    expect(on([held('vulkan0', 'sysfs', 4.1 * gibibyte)], whole)).toMatchObject([{ device: 'vulkan0', part: 'total', expectedBytes: 5.5 * gibibyte, actualBytes: 4.1 * gibibyte, source: 'sysfs' }]);
    expect(on([held('vulkan0', 'fdinfo', 6 * gibibyte)], whole)).toMatchObject([{ source: 'fdinfo', actualBytes: 6 * gibibyte }]);
  });

  test('a process that has less than its weights: a mapped file that memory has no room for', () => {
    const whole = place('cpu', 4 * gibibyte);
    expect(on([held('cpu', 'process', 5 * gibibyte, 4 * gibibyte)], whole)).toEqual([]); // compute buffers come with the first token
    expect(on([held('cpu', 'process', 3 * gibibyte, 2 * gibibyte)], whole)).toMatchObject([{ device: 'cpu', expectedBytes: 5 * gibibyte, actualBytes: 3 * gibibyte, source: 'process' }]);
    expect(on([held('cpu', 'process', 8 * gibibyte, 4 * gibibyte)], whole)).toEqual([]); // as many pages of files as the system likes
    expect(on([held('cpu', 'process', 8 * gibibyte)], whole)).toMatchObject([{ actualBytes: 8 * gibibyte, expectedBytes: 5.5 * gibibyte }]);
    expect(on([held('cpu', 'process', 8 * gibibyte)], whole, place('vulkan0', 1))).toEqual([]); // a driver's own memory is nobody's business
  });
});
