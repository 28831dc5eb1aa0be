import { appendFileSync, copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { devices, loadModel, plan } from '../../dist/index.js';
import type { CeilingProbe } from '../../dist/index.js';
import { planFor } from '../../dist/plan/plan.js';
import { cpu, dense, find, folder, made, stored } from './ceilings.js';

describe('what was found', () => {
  test('is used by later calls, under other bounds too, until it is to be found again', async () => {
    const again: CeilingProbe[] = [];
    expect(await find({ 1100: 'exit' })).toMatchObject({ context: 1024 });
    const later = await find({}, { onProbe: made(again) });
    expect(later).toMatchObject({ context: 1024, end: 'probe' });
    expect(later.probes.every((probe) => probe.stored)).toBe(true);
    expect(await find({}, { context: { max: 900 }, onProbe: made(again) })).toMatchObject({ context: 900, end: 'max' });
    expect(again).toEqual([]); // less than what works does too
    expect(await find({}, { fresh: true })).toMatchObject({ context: 2048, end: 'max' });
    expect(await find({ 2: 'exit' })).toMatchObject({ context: 2048 });
  });

  test('holds for these settings, this model, this driver and this machine', async () => {
    await find({ 1100: 'exit' });
    for (const request of [{ kv: 'q8_0' }, { ubatch: 256 }, { sequences: 2 }, { flashAttention: false }, { spareSequences: 3 }] as const) {
      expect(await find({}, request), JSON.stringify(request)).toMatchObject({ context: 2048, end: 'max' });
    }
    expect(await find({}, {}, 'models/tern-5m-tq2_0.gguf')).toMatchObject({ context: 2048 });
    const copy = join(folder, 'copy.gguf');
    copyFileSync(dense, copy);
    expect(await find({}, {}, copy)).toMatchObject({ context: 1024 }); // the same model under another name
    appendFileSync(copy, 'x');
    expect(await find({}, {}, copy)).toMatchObject({ context: 2048 });
    const known = await devices();
    const range = { ...cpu, context: { min: 256 } };
    expect((await planFor(dense, range, known)).context).toBe(1024);
    expect((await planFor(dense, range, known.map((device) => ({ ...device, driverVersion: 'newer' })))).context).toBe(2048);
    expect((await planFor(dense, range, known.map((device) => ({ ...device, totalBytes: device.totalBytes - 1 })))).context).toBe(2048);
  });

  test('in a file that is damaged counts as nothing', async () => {
    await find({ 1100: 'exit' });
    const [file] = stored();
    const text = readFileSync(file!, 'utf8');
    const { key } = JSON.parse(text) as { key: unknown };
    for (const broken of ['', text.slice(0, 200), 'null', '[]', JSON.stringify({ key, value: 7 }), JSON.stringify({ key, value: [{ context: -1, outcome: 'works', message: '' }] }), JSON.stringify({ key, value: [{ context: 512, outcome: 'unheard of', message: '' }] }), JSON.stringify({ key, value: [null] })]) {
      writeFileSync(file!, broken);
      expect((await plan(dense, { ...cpu, context: { min: 256 } })).context, broken).toBe(2048);
    }
    expect(await find({ 1100: 'exit' })).toMatchObject({ context: 1024 });
    expect(JSON.parse(readFileSync(file!, 'utf8'))).toMatchObject({ key });
  });
});

describe('an end that may pass', () => {
  const [min, max] = [768, 1280];
  const log = () => (process.env['TERNION_TEST_LOG'] = join(folder, `tries-${Math.random()}.log`));
  const tries = (file: string) => readFileSync(file, 'utf8').trim().split('\n').map((line) => Number(line.split(' ')[1]));

  test('the caller’s own patience is not kept', async () => {
    const probes: CeilingProbe[] = [];
    expect(await find({ 1024: 'hang' }, { context: { min, max }, probeTimeoutMs: 1500 })).toMatchObject({ context: 768, end: 'probe', probes: [{}, { context: 1024, outcome: 'hung' }, { context: 1280, outcome: 'hung' }] });
    expect(await plan(dense, { ...cpu, context: { min, max } })).toMatchObject({ fits: true, context: 1280 });
    expect(await find({}, { context: { min, max }, onProbe: made(probes) })).toMatchObject({ context: 1280, end: 'max' });
    expect(probes.map(({ context }) => context)).toEqual([1280]); // what worked is kept
  });

  for (const [end, expected] of [['SIGKILL', { outcome: 'killed' }], ['memory', { outcome: 'failed', code: 'ERR_OUT_OF_MEMORY' }]] as const) {
    test(`${end} counts when it was tried a second time`, async () => {
      const file = log();
      const probes: CeilingProbe[] = [];
      const found = await find({ 1024: `${end} once` }, { context: { min, max }, onProbe: made(probes) });
      expect(found).toMatchObject({ context: 1280, end: 'max', probes: [{ context: 1280, outcome: 'works' }] });
      expect(probes).toMatchObject([{ context: 1280, ...expected }, { context: 1280, outcome: 'works' }]);
      expect(tries(file)).toEqual([1280, 1280]);
      expect((await plan(dense, { ...cpu, context: { min, max } })).context).toBe(1280);
      const second = log();
      expect(await find({ 1024: end }, { context: { min, max }, fresh: true })).toMatchObject({ context: 768, end: 'probe', probes: [{ context: 768 }, expected, expected] });
      expect(tries(second)).toEqual([1280, 1280, 768, 1024, 1024]);
      expect((await plan(dense, { ...cpu, context: { min, max } })).context).toBe(768);
    });
  }

  test('a call that ends after the first try keeps nothing of it', async () => {
    log();
    const controller = new AbortController();
    await expect(find({ 1024: 'SIGKILL' }, { context: { min, max }, signal: controller.signal, onProbe: () => controller.abort() })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect((await plan(dense, { ...cpu, context: { min, max } })).context).toBe(1280);
  });
});

describe('a later plan', () => {
  const range = { ...cpu, context: { min: 256 } } as const;
  test('with a range goes no further than what was found, and says so', async () => {
    await find({ 1100: 'abort' });
    const found = await plan(dense, range);
    expect(found).toMatchObject({ fits: true, context: 1024 });
    expect(found.reasons.find(({ code }) => code === 'context')?.message).toMatch(/1024 tokens: one of 1280 was tried here and did not work \(crashed: ended by SIGABRT/);
    const model = await loadModel(dense, { plan: found, packCache: false });
    expect(model.placement.context).toBe(1024);
    await model.dispose();
    expect(await plan(dense, { ...range, context: { min: 256, max: 1000 } })).toMatchObject({ fits: true, context: 1000 });
    expect(await plan(dense, { ...range, context: 2048 })).toMatchObject({ fits: true, context: 2048 }); // a number is what was asked for
  });

  test('that needs more than works does not fit, and loading says why', async () => {
    await find({ 1100: 'abort' });
    const found = await plan(dense, { ...range, context: { min: 1500 } });
    expect(found).toMatchObject({ fits: false, shortages: [] });
    expect(found.reasons.at(-1)).toMatchObject({ code: 'fit', message: expect.stringMatching(/one of 1280 was tried/) as string });
    await expect(loadModel(dense, { plan: found })).rejects.toMatchObject({ code: 'ERR_PLAN_DOES_NOT_FIT', message: expect.stringMatching(/1280 was tried/) as string });
  });

  test('with a KV cache of a size of its own is none that was tried', async () => {
    await find({ 1024: 'abort' }, { sequences: 4 }); // 4096 cells
    const four = { ...range, sequences: 4, context: { min: 256, max: 2048 } } as const;
    expect(await plan(dense, four)).toMatchObject({ fits: true, context: 768, kvTokens: 3072 });
    expect(await plan(dense, { ...four, kvTokens: 2048 })).toMatchObject({ fits: true, context: 2048, kvTokens: 2048 });
  });

  test('takes another KV type where that goes further', async () => {
    await find({ 1100: 'abort' });
    expect(await plan(dense, { ...range, kv: 'auto' })).toMatchObject({ fits: true, context: 2048, kv: { k: 'q8_0' } });
  });

  test('does not overrun its reserve for a ceiling that is higher', async () => {
    await find({}, { context: { max: 8192 } });
    const list = await devices();
    const bytes = (await plan(dense, { ...cpu, context: 4096, cache: { ramBytes: 0 } })).memory[0]!.bytes;
    const tight = await planFor(dense, { ...cpu, context: { min: 256, max: 8192 }, cache: { ramBytes: 0 } }, list.map((device) => (device.id === 'cpu' ? { ...device, freeBytes: bytes } : device)));
    expect(tight).toMatchObject({ fits: true, context: 4096 });
  });
});
