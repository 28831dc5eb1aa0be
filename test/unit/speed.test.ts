import { describe, expect, test } from 'vitest';
import { compare } from '../../dist/plan/best.js';
import { drawPlan, drawSweep } from '../../dist/plan/draw.js';
import { fromBandwidth, fromSteps, modelFacts, readBytes, secondsAt, speedText } from '../../dist/plan/speed.js';
import type { ModelFacts, StepSeconds } from '../../dist/plan/speed.js';
import { between } from '../../dist/plan/sweep.js';
import type { Plan } from '../../dist/index.js';

const steps: StepSeconds[] = [{ depth: 0, decode: 0.01, prefill: 1 }, { depth: 4096, decode: 0.02, prefill: 3 }];
const none: ModelFacts = { digest: '', expertShare: 1, tiedBytes: undefined };
const weights = [
  { device: 'cpu', role: 'embedding', layer: -1, tensors: 1, bytes: 5000 },
  { device: 'cpu', role: 'attention', layer: 0, tensors: 4, bytes: 1000 },
  { device: 'cpu', role: 'experts', layer: 0, tensors: 3, bytes: 8000 },
  { device: 'cpu', role: 'output', layer: -1, tensors: 2, bytes: 500 },
] as Plan['weights'];
const planned = { weights, memory: [{ device: 'cpu', kvBytes: 80_000 }] as unknown as Plan['memory'], kvTokens: 8000, context: 8192, ubatch: 512 };
const bytesAt = (depth: number, facts = none) => readBytes(planned, facts, depth).get('cpu');

describe('bytes that a token reads', () => {
  test('weights once, rows of the embeddings not at all, cells by depth', () => {
    expect(bytesAt(0)).toBe(9500);
    expect(bytesAt(100)).toBe(9500 + 10 * 100);
    expect(bytesAt(4096)! - bytesAt(0)!).toBe(2 * (bytesAt(2048)! - bytesAt(0)!));
  });

  test('of a mixture the experts that work on it', () => {
    expect(bytesAt(0, { ...none, expertShare: 1 / 8 })).toBe(1000 + 1000 + 500);
  });

  test('embeddings that are the output matrix too, once', () => {
    expect(bytesAt(0, { ...none, tiedBytes: 5000 })).toBe(14_500);
    expect(bytesAt(0, { ...none, tiedBytes: 4000 })).toBe(13_500);
    const twice = { ...planned, weights: [...weights, { device: 'vulkan0', role: 'embedding', layer: -1, tensors: 1, bytes: 5000 }] as Plan['weights'] };
    const both = readBytes(twice, { ...none, tiedBytes: 5000 }, 0);
    expect([...both.values()].reduce((a, b) => a + b)).toBe(14_500);
  });

  test('facts are read from the header: shapes and types decide, names and texts do not', () => {
    const metadata = [
      { key: 'general.architecture', type: 'str', value: 'qwen3moe' }, { key: 'general.name', type: 'str', value: 'one' },
      { key: 'qwen3moe.expert_count', type: 'u32', value: 64 }, { key: 'qwen3moe.expert_used_count', type: 'u32', value: 8 },
    ];
    const tensors = [{ name: 'token_embd.weight', type: 'q8_0', shape: [32, 10], bytes: 340, offset: 0 }];
    const facts = modelFacts({ metadata, tensors });
    expect(facts).toMatchObject({ expertShare: 1 / 8, tiedBytes: 340 });
    const renamed = metadata.map((each) => (each.key === 'general.name' ? { ...each, value: 'two' } : each));
    expect(modelFacts({ metadata: renamed, tensors }).digest).toBe(facts.digest);
    expect(modelFacts({ metadata: metadata.map((each) => ({ ...each, value: each.value === 8 ? 4 : each.value })), tensors }).digest).not.toBe(facts.digest);
    expect(modelFacts({ metadata, tensors: [{ ...tensors[0]!, type: 'q4_0' }] }).digest).not.toBe(facts.digest);
    expect(modelFacts({ metadata, tensors: [...tensors, { name: 'output.weight', type: 'q8_0', shape: [32, 10], bytes: 340, offset: 340 }] }).tiedBytes).toBeUndefined();
  });
});

describe('speed', () => {
  test('time grows evenly with depth, and never falls', () => {
    expect(secondsAt(steps, 0, 'decode')).toBe(0.01);
    expect(secondsAt(steps, 2048, 'decode')).toBeCloseTo(0.015, 12);
    expect(secondsAt(steps, 8192, 'prefill')).toBeCloseTo(5, 12);
    expect(secondsAt([steps[0]!, { depth: 4096, decode: 0.009, prefill: 1 }], 4096, 'decode')).toBe(0.01);
  });

  test('rows at 0, at 4096 and at the end of the context', () => {
    const speed = fromSteps(planned, none, { steps, disturbed: false });
    expect(speed).toMatchObject({ basis: 'steps', disturbed: false, decodeTokensPerSecond: 100, prefillTokensPerSecond: 512 });
    expect(speed.depth.map(({ depth }) => depth)).toEqual([0, 4096, 8192]);
    expect(speed.depth[1]).toMatchObject({ decodeTokensPerSecond: 50, readBytesPerToken: 9500 + 40_960 });
    expect(speed.depth[2]!.decodeTokensPerSecond).toBeCloseTo(1 / 0.03, 9);
    expect(fromSteps({ ...planned, context: 4096 }, none, { steps, disturbed: false }).depth.map(({ depth }) => depth)).toEqual([0, 4096]);
    expect(fromSteps({ ...planned, context: 1000 }, none, { steps, disturbed: false }).depth.map(({ depth }) => depth)).toEqual([0, 1000]);
    expect(JSON.parse(JSON.stringify(speed))).toEqual(speed);
  });

  test('by bandwidth: bytes over bytes per second, one device after the other; prefill is not known', () => {
    const speed = fromBandwidth(planned, none, new Map([['cpu', 95_000]]));
    expect(speed).toMatchObject({ basis: 'bandwidth', decodeTokensPerSecond: 10, prefillTokensPerSecond: undefined });
    expect(speed.depth[1]!.decodeTokensPerSecond).toBeLessThan(2);
    const both = { ...planned, weights: weights.map((part) => (part.role === 'experts' ? part : { ...part, device: 'vulkan0' })) };
    expect(fromBandwidth(both, none, new Map([['cpu', 80_000], ['vulkan0', 15_000]])).decodeTokensPerSecond).toBeCloseTo(1 / (0.1 + 0.1), 9);
    expect(speedText(speed)).toMatch(/^decode 10\.0 tok\/s; after 4096 tokens .* at most, by what memory allows/);
  });

  test('is drawn, and said to be disturbed', () => {
    const speed = fromSteps(planned, none, { steps, disturbed: true });
    expect(speedText(speed)).toBe('decode 100 tok/s, prefill 512; after 4096 tokens 50.0 and 171; after 8192 tokens 33.3 and 102 (the machine was busy: measure again)');
    const plan = { model: { name: 'M', architecture: 'llama', quantization: 'TQ2_0', fileBytes: 1e9 }, kv: { k: 'f16', v: 'f16' }, context: 8192, sequences: 1, threads: 2, devices: ['cpu'], memory: [], reasons: [], fits: true } as unknown as Plan;
    expect(drawPlan(plan)).not.toContain('tok/s');
    expect(drawPlan({ ...plan, speed })).toContain('decode 100 tok/s');
  });
});

test('between two sides of a sweep each layer costs the same', () => {
  const cpu = { steps: steps.map((step) => ({ ...step, decode: 2 * step.decode, prefill: 4 * step.prefill })), disturbed: true };
  const half = between({ steps, disturbed: false }, cpu, 0.5);
  expect(half).toEqual({ steps: [{ depth: 0, decode: 0.015, prefill: 2.5 }, { depth: 4096, decode: 0.03, prefill: 7.5 }], disturbed: true });
  expect(between({ steps, disturbed: false }, cpu, 0).steps).toEqual(steps);
});

test('a sweep is drawn with its curve and the first that fits', () => {
  const row = (cpuLayers: number, fits: boolean, factor: number) => ({
    cpuLayers, fits, memory: [{ device: 'cpu', bytes: 2 ** 20 }, { device: 'vulkan0', bytes: 2 ** 30 }] as never,
    speed: fromSteps(planned, none, { steps: steps.map((step) => ({ ...step, decode: factor * step.decode })), disturbed: false }),
  });
  const drawn = drawSweep({ model: { name: 'Mix', layers: 2, experts: 8 } as Plan['model'], devices: ['vulkan0'], context: 4096, rows: [row(0, false, 1), row(1, true, 2), row(2, true, 4)], chosen: 1 });
  const lengths = drawn.split('\n').slice(3).map((line) => [...line].filter((sign) => sign === '█').length);
  expect(lengths).toEqual([40, 20, 10]);
  expect(drawn).toMatch(/ 0 .* does not fit\n +1 .* fits first\n +2 /);
});

describe('the best of several files', () => {
  const file = (bitsPerWeight: number, tokensPerSecond: number | undefined, more: { fits?: boolean; devices?: string[] } = {}) => ({
    bitsPerWeight,
    plan: { fits: more.fits ?? true, devices: more.devices ?? ['cpu'], weights: [], speed: tokensPerSecond === undefined ? undefined : { decodeTokensPerSecond: tokensPerSecond } } as unknown as Plan,
  });
  const order = (files: ReturnType<typeof file>[], least?: number) => files.sort((a, b) => compare(a, b, least)).map(({ bitsPerWeight }) => bitsPerWeight);

  test('most bits that fit; fewer where more are too slow', () => {
    const files = () => [file(2, 60), file(4, 30), file(16, 5, { fits: false }), file(8, 12)];
    expect(order(files())).toEqual([8, 4, 2, 16]);
    expect(order(files(), 20)).toEqual([4, 2, 8, 16]);
    expect(order(files(), 100)).toEqual([2, 4, 8, 16]); // none: the fastest
  });

  test('all on the GPU before more bits on the CPU; unknown speed is not fast enough', () => {
    expect(order([file(8, 10), file(4, 40, { devices: ['vulkan0'] })])).toEqual([4, 8]);
    expect(order([file(8, undefined), file(4, 40)], 20)).toEqual([4, 8]);
  });
});
