import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { synthesize } from '../../dist/gguf/index.js';
import { devices, loadModel, plan } from '../../dist/index.js';
import type { Device, Experts, Model } from '../../dist/index.js';
import { planFor } from '../../dist/plan/plan.js';

process.env['GGML_VK_VISIBLE_DEVICES'] = '0'; // lavapipe
process.env['GGML_VK_DISABLE_F16'] = '1'; // sums in 32 bits, as the CPU's
const gpu = (await devices()).find((device) => device.backend === 'vulkan');
const files = { float: 'models/tern-moe-6m-f16.gguf', ternary: 'models/tern-moe-6m-tq2_0.gguf' };
const on = { devices: [gpu?.id ?? ''] };

/** Where the routed experts are, by device. */
const expertsOn = (model: Model) => model.placement.weights.filter(({ role }) => role === 'experts').map(({ device }) => device);

async function reference(path: string) {
  process.env['TERNION_KERNEL'] = 'float32';
  try {
    const model = await loadModel(path, { devices: ['cpu'] });
    const session = await model.session();
    const { text } = await session.complete('Once upon a time', { temperature: 0, ignoreEos: true, maxTokens: 160 });
    const tokens = await model.tokenize(`<|endoftext|>Once upon a time${text}`, { special: true });
    const logits = await model.logits(tokens);
    const width = model.info.vocabulary;
    await model.dispose();
    return { tokens, logits, width };
  } finally {
    delete process.env['TERNION_KERNEL'];
  }
}

describe.skipIf(gpu === undefined)('experts beside a GPU', () => {
  const placements: [string, Experts, string[]][] = [
    ['on it', 'gpu', [gpu?.id ?? '']],
    ['in the CPU’s memory', 'cpu', ['cpu']],
    ['of no layer on the CPU', { cpuLayers: 0 }, [gpu?.id ?? '']],
    ['of the first four layers on the CPU', { cpuLayers: 4 }, ['cpu']],
    ['and a pattern of other tensors', { overrides: { 'attn_(q|k)\\.': 'cpu', ffn_down_exps: 'cpu' } }, [gpu?.id ?? '', 'cpu']],
  ];
  for (const [kind, path] of Object.entries(files)) {
    const right = gpu === undefined ? undefined : reference(path);
    test.each(placements)(`${kind}, %s: the reference's logits, teacher-forced`, async (_, experts, where) => {
      const { tokens, logits, width } = await right!;
      const model = await loadModel(path, { ...on, experts });
      expect(expertsOn(model).sort()).toEqual([...where].sort());
      const found = await model.logits(tokens);
      await model.dispose();
      let error = 0;
      let power = 0;
      let largest = 0;
      let clear = 0;
      let same = 0;
      for (let row = 0; row < tokens.length; row++) {
        const [a, b] = [logits, found].map((all) => all.subarray(row * width, (row + 1) * width)) as [Float32Array, Float32Array];
        const scale = Math.max(...a.map(Math.abs));
        for (let i = 0; i < width; i++) {
          error += (a[i]! - b[i]!) ** 2;
          power += a[i]! ** 2;
          largest = Math.max(largest, Math.abs(a[i]! - b[i]!) / scale);
        }
        const [first, second] = Float32Array.from(a).sort().reverse();
        if (first! - second! < 0.1) continue; // a near-tie may fall either way
        clear++;
        if (a.indexOf(first!) === b.indexOf(Math.max(...b))) same++;
      }
      expect(clear).toBeGreaterThan(100);
      expect(same / clear).toBeGreaterThanOrEqual(0.99);
      expect(error / power).toBeLessThanOrEqual(5e-4); // the CPU rounds the activations of ternary weights, the GPU does not
      if (kind === 'float') expect(largest).toBeLessThan(1e-3); // of the row's largest logit
    });
  }

  test('patterns and devices that cannot be are refused by name', async () => {
    const refused = (experts: Experts, message: RegExp, path = files.float) => expect(loadModel(path, { ...on, experts })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG', message: expect.stringMatching(message) as string });
    await refused({ overrides: { nothing_like_it: 'cpu' } }, /\/nothing_like_it\/ is found in no tensor's name/);
    await refused({ overrides: { '(': 'cpu' } }, /\/\(\/ is no pattern of tensor names/);
    await refused({ overrides: { attn: 'vulkan9' } }, /device 'vulkan9', which the model is not loaded on/);
    for (const experts of ['cpu', { cpuLayers: 2 }] as const) { // there are none, or none in these layers: nothing moves
      const model = await loadModel('models/tern-5m-f16.gguf', { ...on, experts });
      await model.dispose();
    }
  });

  // Lavapipe shares the CPU's memory, a card with memory of its own is what offload is for: its figures are made up, the rest is real.
  const card = async (freeBytes: number) => (await devices()).map((device): Device => (device.id === gpu!.id ? { ...device, uma: false, freeBytes, totalBytes: 2 ** 33 } : device));

  test('a plan puts experts into the CPU’s memory where a card has no room for them', async () => {
    const request = { ...on, context: 512, reserve: { deviceBytes: 0 } };
    const whole = await planFor(files.float, request, await card(2 ** 33));
    expect(whole).toMatchObject({ fits: true, experts: 'gpu' });
    const bytes = whole.memory[1]!.bytes;
    const apart = await planFor(files.float, request, await card(bytes - 1));
    expect(apart).toMatchObject({ fits: true, experts: { cpuLayers: 4 } }); // the model's only layer with experts is the fourth
    expect(apart.memory[1]!.bytes).toBeLessThan(bytes - 6_000_000);
    expect(apart.reasons.at(-1)!.message).toMatch(/the experts of the first 4 layers in the CPU's memory/);
    expect(await planFor(files.float, { ...request, experts: 'gpu' }, await card(bytes - 1))).toMatchObject({ fits: false, experts: 'gpu' });
    const neither = await planFor(files.float, request, await card(1_000_000));
    expect(neither.fits).toBe(false);
    expect(neither.reasons.map(({ message }) => message)).toContain("nor with the experts in the CPU's memory");
  });

  test('as few layers as the card has to do without, also where the CPU has no room for all of them', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ternion-experts-'));
    try {
      const six = join(folder, 'six.gguf');
      await synthesize(six, 'Qwen3-30B-A3B', { layers: 6, types: { matrices: 'q4_0' }, headerOnly: true });
      const request = { ...on, context: 512, reserve: { deviceBytes: 0, hostBytes: 0 }, cache: { ramBytes: 0 } };
      const at = (cpuLayers: number) => planFor(six, { ...request, experts: { cpuLayers } }, list);
      const list = await card(2 ** 40);
      const [two, three] = [await at(2), await at(3)];
      const tight = (await card(two.memory[1]!.bytes)).map((device) => (device.id === 'cpu' ? { ...device, freeBytes: three.memory[0]!.bytes - 1 } : device));
      expect(await planFor(six, request, tight)).toMatchObject({ fits: true, experts: { cpuLayers: 2 } });
      const less = tight.map((device) => (device.id === 'cpu' ? { ...device, freeBytes: two.memory[0]!.bytes - 1 } : device));
      expect((await planFor(six, request, less)).fits).toBe(false);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test('memory that the firmware carved out for a GPU is not the CPU’s', async () => {
    const request = { ...on, context: 512, reserve: { deviceBytes: 0, hostBytes: 0 }, cache: { ramBytes: 0 } };
    const [cpu, part] = (await plan(files.float, request)).memory;
    expect(part!.poolBytes).toBe(part!.bytes);
    const list = await devices();
    const board = (own: number) => list.map((device) => (device.id === 'cpu' ? { ...device, freeBytes: cpu!.bytes } : device.id === gpu!.id ? { ...device, ownFreeBytes: own } : device));
    expect(await planFor(files.float, request, board(part!.bytes))).toMatchObject({ fits: true });
    expect(await planFor(files.float, request, board(part!.bytes - 1))).toMatchObject({ fits: false, shortages: [{ device: 'cpu', neededBytes: cpu!.bytes + 1, availableBytes: cpu!.bytes }] });
  });

  test('and does not where the GPU shares it, or where there are none', async () => {
    const request = { ...on, context: 512, reserve: { deviceBytes: gpu!.freeBytes - 1_000_000 } };
    const shared = await plan(files.float, request);
    expect(shared.fits).toBe(false);
    expect(shared.reasons.map(({ message }) => message)).toContain(`experts in the CPU's memory gain nothing: ${gpu!.id} shares it`);
    const dense = await planFor('models/tern-5m-f16.gguf', { ...on, context: 512, reserve: { deviceBytes: 0 } }, await card(1_000_000));
    expect(dense).toMatchObject({ fits: false, experts: 'gpu' });
  });
});
