import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { loadModel, plan, sweepLayers, tune } from '../../dist/index.js';
import type { TuneRequest } from '../../dist/index.js';
import { tuneWith } from '../../dist/tune/tune.js';

const dense = 'models/tern-5m-f16.gguf';
const child = join(process.cwd(), 'test/api/speed-child.mjs');
const folder = mkdtempSync(join(tmpdir(), 'ternion-tune-'));
const log = join(folder, 'samples.log');
const small = { devices: ['cpu'], packCache: false, context: 512, prompt: 256, tokens: 8, rounds: 2 } as const;
let caches = 0;

beforeEach(() => {
  process.env['XDG_CACHE_HOME'] = join(folder, String(caches++)); // nothing is known at first
  process.env['TERNION_TEST_LOG'] = log;
  rmSync(log, { force: true });
});
afterAll(() => {
  for (const name of ['XDG_CACHE_HOME', 'TERNION_TEST_LOG', 'TERNION_TEST_SPEEDS']) delete process.env[name];
  rmSync(folder, { recursive: true, force: true });
});

interface Speeds {
  readonly ends?: Readonly<Record<string, string>>;
  readonly prefill?: Readonly<Record<string, number>>;
  readonly decode?: Readonly<Record<string, number>>;
  readonly texts?: boolean;
  readonly jitter?: number;
}
function find(speeds: Speeds, request: TuneRequest = {}) {
  process.env['TERNION_TEST_SPEEDS'] = JSON.stringify(speeds);
  return tuneWith(dense, { ...small, ubatch: [64, 128], kv: ['q8_0'], threads: [1], flashAttention: [], ...request }, child);
}
/** The settings of each sample that was taken. */
const samples = () => (existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : []);
const chosen = <T extends object>({ ubatch, kv, threads }: T & { ubatch?: unknown; kv?: unknown; threads?: unknown }) => JSON.parse(JSON.stringify({ ubatch, kv, threads })) as object;

describe('with speeds that are known', () => {
  test('what is within the spread of the default is a tie, and left as it is', async () => {
    const found = await find({ jitter: 0.1 }, { rounds: 5 });
    expect(chosen(found.settings)).toEqual({});
    expect(found.decode).toEqual({ settings: {}, ratio: undefined });
    expect(found.prefill).toEqual({ settings: {}, ratio: undefined });
    expect(found.figures.map(({ settings }) => settings)).toEqual([{ ubatch: 64 }, { ubatch: 128 }, { kv: 'q8_0' }, ...(found.figures.length > 3 ? [{ threads: 1 }] : [])]);
    expect(found.figures.filter(({ decodeRatio }) => !decodeRatio.tie)).toEqual([]);
    expect(found.base.decode.samples).toHaveLength(5);
    expect(found.control.decode.q3).toBeGreaterThan(found.control.decode.q1);
  });

  test('the fastest is found for each, with its ratio; settings that go together are measured together', async () => {
    const found = await find({ prefill: { '"ubatch":128': 1.5, '"ubatch":64': 1.2, q8_0: 0.5 }, decode: { '"threads":1': 1.3, '"ubatch":64': 1.1 } });
    expect(found.prefill.settings).toEqual({ ubatch: 128 });
    expect(found.prefill.ratio?.median).toBeCloseTo(1.5, 1);
    expect(found.decode.settings).toEqual({ threads: 1, ubatch: 64 });
    expect(found.decode.ratio?.median).toBeCloseTo(1.43, 1);
    expect(chosen(found.settings)).toEqual({ threads: 1, ubatch: 64 }); // decode comes first
    expect(samples().filter((settings) => settings.includes('"ubatch":64') && settings.includes('"threads":1'))).toHaveLength(3);
  });

  test('what helps prefill is taken where decoding does not suffer', async () => {
    expect(chosen((await find({ prefill: { '"ubatch":128': 1.5 } })).settings)).toEqual({ ubatch: 128 });
    expect(chosen((await find({ prefill: { '"ubatch":128': 1.5 }, decode: { '"ubatch":128': 0.8 } }, { fresh: true })).settings)).toEqual({});
    expect(chosen((await find({ prefill: { '"ubatch":128': 1.5 }, decode: { q8_0: 1.4 } }, { fresh: true })).settings)).toEqual({ ubatch: 128, kv: 'q8_0' });
  });

  test('what is fast alone and slow together is not taken together', async () => {
    const found = await find({ decode: { '"ubatch":64': 1.2, q8_0: 1.4, '"kv":"q8_0","ubatch":64': 0.5, '"ubatch":64,"kv":"q8_0"': 0.5 } });
    expect(found.decode.settings).toEqual({ kv: 'q8_0' });
    expect(chosen(found.settings)).toEqual({ kv: 'q8_0' });
  });

  test('another text in another sample is no figure', async () => {
    await expect(find({ texts: true })).rejects.toMatchObject({ code: 'ERR_INTERNAL', message: expect.stringMatching(/default settings failed: the same settings gave another text/) as string });
  });
});

describe('settings that end a sample', () => {
  test('are said, and never repeated: not in later rounds, not by later calls, not afresh', async () => {
    const speeds = { ends: { '"ubatch":64': 'abort', q8_0: 'silent' }, decode: { '"ubatch":128': 1.4 } };
    const found = await find(speeds);
    expect(found.missing).toMatchObject([{ settings: { ubatch: 64 }, outcome: 'crashed' }, { settings: { kv: 'q8_0' }, outcome: 'hung', reason: 'no sign of life for 0.500 s' }]);
    expect(chosen(found.settings)).toEqual({ ubatch: 128 });
    const times = (key: string) => samples().filter((settings) => settings.includes(key)).length;
    expect([times('"ubatch":64'), times('q8_0')]).toEqual([1, 1]);
    const again = await find({ decode: speeds.decode }, { fresh: true });
    expect(again.missing).toMatchObject([{ settings: { ubatch: 64 }, outcome: 'crashed', reason: expect.stringMatching(/found before, and not repeated/) as string }, { outcome: 'hung' }]);
    expect([times('"ubatch":64'), times('q8_0')]).toEqual([1, 1]);
    expect((await find({}, { fresh: 'all' })).missing).toEqual([]);
    expect([times('"ubatch":64'), times('q8_0')]).toEqual([4, 4]);
  });

  test('by the time that the caller gave them are asked again, and no result is kept without them', async () => {
    const found = await find({ ends: { q8_0: 'hang' } }, { probeTimeoutMs: 1500 });
    expect(found.missing).toMatchObject([{ settings: { kv: 'q8_0' }, outcome: 'hung', reason: 'not done after 1.50 s' }]);
    const later = await find({});
    expect(later).toMatchObject({ stored: false, missing: [] });
    expect(later.figures.map(({ settings }) => settings)).toContainEqual({ kv: 'q8_0' });
    expect((await find({}, { probeTimeoutMs: 60_000 })).stored).toBe(true);
  });

  test('killed by what may be another’s doing are tried a second time before that counts', async () => {
    expect((await find({ ends: { q8_0: 'kill once' } })).missing).toEqual([]);
    expect((await find({ ends: { q8_0: 'kill' } }, { fresh: true, context: 600 })).missing).toMatchObject([{ settings: { kv: 'q8_0' }, outcome: 'killed' }]);
    expect((await find({}, { fresh: true, context: 600 })).missing).toMatchObject([{ outcome: 'killed', reason: expect.stringMatching(/not repeated/) as string }]);
  });

  test('with an error are asked again', async () => {
    expect((await find({ ends: { q8_0: 'memory' } })).missing).toMatchObject([{ settings: { kv: 'q8_0' }, outcome: 'failed', reason: 'none left' }]);
    expect((await find({}, { fresh: true })).missing).toEqual([]);
  });

  test('reject if they are the default ones', async () => {
    await expect(find({ ends: { '"packCache"': 'abort' } })).rejects.toMatchObject({ code: 'ERR_INTERNAL', message: expect.stringMatching(/default settings crashed: ended by SIGABRT/) as string });
  });
});

describe('what was found', () => {
  test('is used again, for the same question; a damaged file counts as nothing', async () => {
    const speeds = { decode: { '"ubatch":64': 1.4 } };
    const first = await find(speeds);
    const taken = samples().length;
    const second = await find({});
    expect(second).toMatchObject({ stored: true, decode: first.decode, settings: first.settings });
    expect(samples()).toHaveLength(taken);
    for (const other of [{ prompt: 128 }, { rounds: 3 }, { ubatch: [64] }, { context: 600 }]) expect((await find(speeds, other)).stored, JSON.stringify(other)).toBe(false);
    const store = join(process.env['XDG_CACHE_HOME']!, 'ternion', 'measured');
    for (const name of readdirSync(store)) {
      const { key } = JSON.parse(readFileSync(join(store, name), 'utf8')) as { key: unknown };
      writeFileSync(join(store, name), JSON.stringify({ key, value: { settings: {}, figures: 7 } }));
    }
    expect(await find(speeds)).toMatchObject({ stored: false, decode: { settings: { ubatch: 64 } } });
  });

  test('is measured for real, and is what loadModel and plan take', async () => {
    const found = await tune(dense, { ...small, ubatch: [64], threads: [1] });
    expect(found).toMatchObject({ prompt: 256, tokens: 8, rounds: 2, context: 512, stored: false });
    expect(found.missing.filter(({ settings }) => Object.keys(settings).length < 2)).toEqual([]); // some do not go together
    expect(found.figures.map(({ settings }) => Object.keys(settings)[0])).toEqual(expect.arrayContaining(['ubatch', 'flashAttention', 'kv']));
    for (const { prefill, decode } of [found.base, ...found.figures]) {
      expect(prefill.min).toBeGreaterThan(0);
      expect(decode.min).toBeGreaterThan(0);
    }
    const settings = { ...found.settings, ...found.figures[0]!.settings };
    expect((await plan(dense, settings)).ubatch).toBe(64);
    const model = await loadModel(dense, settings);
    expect(model.placement.ubatch).toBe(64);
    await model.dispose();
  });

  test('an abort kills the sample', async () => {
    const controller = new AbortController();
    const running = find({ ends: { '"packCache"': 'hang' } }, { signal: controller.signal });
    while (samples().length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
    controller.abort(new Error('enough'));
    await expect(running).rejects.toMatchObject({ code: 'ERR_ABORTED', cause: { message: 'enough' } });
  });
});

test('settings that a model does not take are said, and the rest is measured', async () => {
  const found = await find({}, { flashAttention: [false], kv: ['q8_0', 'q4_0'], ubatch: [] });
  expect(found.missing).toEqual([]);
  const hybrid = await tuneWith('models/tern-hybrid-random.gguf', { ...small, ubatch: [64], kv: [], threads: [] }, child);
  expect(hybrid.figures.map(({ settings }) => settings)).toContainEqual({ ubatch: 64 });
});

test('bad input is refused at once, or by the file', async () => {
  expect(() => tune(dense, { ubatches: [1] } as never)).toThrow(/did you mean "ubatch"/);
  expect(() => sweepLayers(dense, { layer: [1] } as never)).toThrow(/did you mean "layers"/);
  for (const request of [{ ubatch: [0] }, { ubatch: 64 }, { kv: ['q2_k'] }, { threads: [-1] }, { rounds: 1 }, { probeTimeoutMs: -5 }, { fresh: 'again' }, { prompt: 500, context: 512, tokens: 64 }, { flashAttention: ['on'] }]) {
    expect(() => tune(dense, request as never), JSON.stringify(request)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG' }) as Error);
  }
  const text = join(folder, 'text.gguf');
  writeFileSync(text, 'no model');
  await expect(tune(text, small)).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
  await expect(tune(join(folder, 'absent.gguf'), small)).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_FOUND' });
  await expect(tune(dense, { ...small, devices: ['vulkan9'] })).rejects.toMatchObject({ code: 'ERR_DEVICE_NOT_FOUND' });
  await expect(sweepLayers(dense, { devices: ['cpu'], packCache: false })).rejects.toMatchObject({ code: 'ERR_DEVICE_NOT_FOUND', message: expect.stringMatching(/no GPU to put layers on/) as string });
  await expect(tune(dense, { ...small, signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
});
