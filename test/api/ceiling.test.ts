import { execFile, execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { addon } from '../../dist/addon.js';
import { findMaxContext, loadModel, plan } from '../../dist/index.js';
import type { CeilingProbe, ContextCeiling } from '../../dist/index.js';
import { findCeiling } from '../../dist/ceiling/ceiling.js';
import { cpu, dense, find, folder, made, storeFolder, stored } from './ceilings.js';

afterEach(() => vi.restoreAllMocks());

describe('a context that works', () => {
  test('was filled to four fifths, and decoded behind that', async () => {
    const probes: CeilingProbe[] = [];
    const found = await findMaxContext(dense, { ...cpu, onProbe: made(probes) });
    expect(found).toMatchObject({ context: 2048, end: 'max', plannedContext: 2048, trainedContext: 2048, settings: { devices: ['cpu'], kv: { k: 'f16', v: 'f16' }, sequences: 1, ubatch: 512 } });
    expect(probes).toEqual(found.probes);
    expect(probes).toHaveLength(1); // the plan was right
    expect(probes[0]).toMatchObject({ context: 2048, outcome: 'works', filled: 1638, stored: false });
    expect(probes[0]!.prefillTokensPerSecond).toBeGreaterThan(0);
    expect(probes[0]!.peakResidentBytes).toBeGreaterThan(30e6);
    const model = await loadModel(dense, { ...found.settings, context: found.context, packCache: false });
    expect(model.placement).toMatchObject({ context: 2048, sequences: 1, flashAttention: found.settings.flashAttention });
    await model.dispose();
  });

  test('by mixtures, hybrids and several sequences too', async () => {
    for (const [path, request] of [['models/tern-moe-6m-tq2_0.gguf', {}], ['models/tern-hybrid-random.gguf', { sequences: 2 }], [dense, { sequences: 3, kv: { k: 'q8_0', v: 'f16' }, ubatch: 128 }]] as const) {
      expect(await findMaxContext(path, { ...cpu, ...request, context: { max: 700 } }), path).toMatchObject({ context: 700, end: 'max', probes: [{ outcome: 'works', filled: 560 }] });
    }
  });

  test('is looked for between the bounds that were asked for', async () => {
    expect(await find({ 512: 'exit' }, { context: { min: 300, max: 4000 } })).toMatchObject({ context: 300, end: 'probe' });
    expect(await find({ 2: 'exit' }, { context: { min: 300, max: 300 }, fresh: true })).toMatchObject({ context: 0, end: 'probe' });
    expect(await find({}, { context: { max: 3 }, fresh: true })).toMatchObject({ context: 3, probes: [{ context: 3, outcome: 'works', filled: 2 }] });
  });
});

describe('a probe that ends badly', () => {
  const ends = {
    exit: { outcome: 'exited', exitCode: 7 },
    throw: { outcome: 'exited', exitCode: 1, message: expect.stringContaining('a defect') as string },
    garbage: { outcome: 'exited', exitCode: 0 },
    abort: { outcome: 'crashed', signal: 'SIGABRT' },
    SIGSEGV: { outcome: 'crashed', signal: 'SIGSEGV' },
    SIGKILL: { outcome: 'killed', signal: 'SIGKILL' },
    SIGTERM: { outcome: 'killed', signal: 'SIGTERM' },
  } as const;
  for (const [end, expected] of Object.entries(ends)) {
    test(`${end} is told apart, and the ceiling is the step below it`, async () => {
      const found = await find({ 1024: end }, { context: { min: 768, max: 1280 } });
      expect(found).toMatchObject({ context: 768, end: 'probe' });
      expect(found.probes.find(({ context }) => context === 1024)).toMatchObject(expected);
      expect(found.message).toContain(`1024 ${expected.outcome}`);
    });
  }

  test('a hang is ended after the time that was given', async () => {
    const log = join(folder, 'hang.log');
    process.env['TERNION_TEST_LOG'] = log;
    const began = performance.now();
    const found = await find({ 512: 'hang' }, { context: { min: 512, max: 512 }, probeTimeoutMs: 1500 });
    expect(found).toMatchObject({ context: 0, end: 'probe', probes: [{ context: 512, outcome: 'hung', message: 'not done after 1.50 s' }] });
    expect(performance.now() - began).toBeLessThan(6000);
    const pid = Number(readFileSync(log, 'utf8').split(' ')[0]);
    expect(() => process.kill(pid, 0)).toThrow(/ESRCH/);
  });

  test('an error that is the call’s own rejects and is not kept', async () => {
    const path = join(folder, 'gone.gguf');
    copyFileSync(dense, path);
    process.env['TERNION_TEST_PROBE'] = '{}';
    const running = findCeiling(path, { ...cpu, devices: ['cpu'] }, join(process.cwd(), 'test/api/probe-gone.mjs'));
    await expect(running).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_FOUND' });
    expect(existsSync(storeFolder()) ? stored() : []).toEqual([]);
  });
});

describe('the search', () => {
  test('bisects to the step, beyond the plan and below it', async () => {
    for (const least of [700, 3000, 3840, 4000]) {
      const probes: CeilingProbe[] = [];
      const found = await find({ [least]: 'exit' }, { context: { max: 4000 }, onProbe: made(probes), fresh: true });
      expect(found.context).toBe(Math.ceil(least / 256 - 1) * 256);
      expect(probes[0]!.context).toBe(found.plannedContext);
      expect(probes.length).toBeLessThanOrEqual(5);
    }
  });

  test('nothing that works is 0', async () => {
    expect(await find({ 2: 'abort' }, { context: { max: 1024 } })).toMatchObject({ context: 0, end: 'probe' });
  });

  test('tries nothing that would take reserved memory', async () => {
    const still = await addon().devices(false); // other programs' memory moves
    vi.spyOn(addon(), 'devices').mockResolvedValue(still);
    const { freeBytes } = still.devices[0]!;
    const settings = { kv: 'f32', sequences: 8 } as const; // 80 KiB for each token of context
    const least = (await plan(dense, { ...cpu, ...settings, context: 256, cache: { ramBytes: 0 } })).memory[0]!.bytes;
    const probes: CeilingProbe[] = [];
    const found = await find({}, { ...settings, context: { max: 1_000_000 }, reserve: { hostBytes: Math.max(0, freeBytes - least - 160 * 2 ** 20) }, onProbe: made(probes) });
    expect(found.end).toBe('memory');
    expect(found.context).toBeGreaterThan(256);
    expect(found.context).toBeLessThan(5000);
    expect(probes.every(({ outcome }) => outcome === 'works')).toBe(true);
    expect(await find({}, { context: { max: 512 }, reserve: { hostBytes: Number.MAX_SAFE_INTEGER }, fresh: true })).toMatchObject({ context: 0, end: 'memory', plannedContext: 0, probes: [] });
  });

  test('its children are the first to go where memory runs out', async () => {
    const log = join(folder, 'score.log');
    const script = join(folder, 'scored.mjs');
    writeFileSync(script, `import { appendFileSync, readFileSync } from 'node:fs';
      process.stdout.write = ((write) => (...args) => (appendFileSync(${JSON.stringify(log)}, readFileSync('/proc/self/oom_score_adj')), write.apply(process.stdout, args)))(process.stdout.write);
      await import(${JSON.stringify(join(process.cwd(), 'dist/ceiling/child.js'))});`);
    await findCeiling(dense, { ...cpu, context: { max: 512 } }, script);
    if (process.platform === 'linux') expect(new Set(readFileSync(log, 'utf8').trim().split('\n'))).toEqual(new Set(['1000']));
  });

  test('an abort kills the child and keeps what was found', async () => {
    const controller = new AbortController();
    const log = join(folder, 'abort.log');
    process.env['TERNION_TEST_LOG'] = log;
    const probes: CeilingProbe[] = [];
    const running = find({ 1024: 'hang', 4096: 'exit' }, { context: { max: 4096 }, signal: controller.signal, onProbe: made(probes) });
    while (!existsSync(log) || readFileSync(log, 'utf8').split('\n').length < 3) await new Promise((resolve) => setTimeout(resolve, 50));
    controller.abort(new Error('enough'));
    await expect(running).rejects.toMatchObject({ code: 'ERR_ABORTED', cause: { message: 'enough' } });
    const pids = readFileSync(log, 'utf8').trim().split('\n').map((line) => Number(line.split(' ')[0]));
    for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow(/ESRCH/);
    expect(probes.map(({ context, outcome }) => [context, outcome])).toEqual([[4096, 'exited']]);
    const rest: CeilingProbe[] = [];
    expect(await find({ 1024: 'exit' }, { context: { max: 4096 }, onProbe: made(rest) })).toMatchObject({ context: 768 });
    expect(rest.map(({ context }) => context)).not.toContain(4096);
  });

  test('a child dies with the process that looks', async () => {
    const log = join(folder, 'orphan.log');
    const script = `import { findCeiling } from ${JSON.stringify(join(process.cwd(), 'dist/ceiling/ceiling.js'))}; findCeiling(${JSON.stringify(dense)}, { devices: ['cpu'], packCache: false, context: { max: 2048 } }, ${JSON.stringify(join(process.cwd(), 'test/api/probe-slow.mjs'))}); setTimeout(() => process.kill(process.pid, 'SIGKILL'), 1500);`;
    await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], { env: { ...process.env, TERNION_TEST_LOG: log } }).catch(() => {});
    const pid = Number(readFileSync(log, 'utf8').split(' ')[0]);
    for (let i = 0; i < 40 && alive(pid); i++) await new Promise((resolve) => setTimeout(resolve, 100));
    expect(alive(pid)).toBe(false);
  });
});

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe.skipIf(process.platform !== 'linux')('in a process that may have 205 MB of data', () => {
  test('a plan is wrong, the ceiling is found, and later plans keep to it', () => {
    const script = `
      import { findMaxContext, plan } from ${JSON.stringify(join(process.cwd(), 'dist/index.js'))};
      const request = { devices: ['cpu'], packCache: false };
      const max = 30000;
      const before = await plan(process.argv[1], { ...request, context: { min: 256, max } });
      const found = await findMaxContext(process.argv[1], { ...request, context: { max } });
      const after = await plan(process.argv[1], { ...request, context: { min: 256, max } });
      console.log(JSON.stringify({ before: before.context, found, after: after.context }));`;
    const out = execFileSync('sh', ['-c', 'ulimit -d 205000; exec "$0" "$@"', process.execPath, '--input-type=module', '-e', script, dense], { encoding: 'utf8' });
    const { before, found, after } = JSON.parse(out) as { before: number; found: ContextCeiling; after: number };
    expect(before).toBe(30000);
    expect(found.end).toBe('probe');
    expect(found.context).toBeGreaterThan(2048);
    expect(found.context).toBeLessThan(10_000);
    expect(found.probes.filter(({ outcome }) => outcome === 'failed').map(({ code }) => code)).toContain('ERR_OUT_OF_MEMORY');
    expect(after).toBe(found.context);
    expect(after % 256).toBe(0);
  }, 240_000);
});

describe('bad input', () => {
  test('is refused at once, or by the file', async () => {
    expect(() => findMaxContext(dense, { probeTimeoutMS: 5 } as never)).toThrow(/did you mean "probeTimeoutMs"/);
    expect(() => findMaxContext(dense, { context: { minimum: 5 } } as never)).toThrow(/request.context has no "minimum"/);
    expect(() => findMaxContext(dense, { context: { min: 5000, max: 400 } })).toThrow(/context.max must be at least min \(5000\); found 400/);
    for (const request of [{ probeTimeoutMs: -1 }, { probeTimeoutMs: 0 }, { context: { max: 1 } }, { context: 4096 }, { kv: 'auto' }, { reserve: { hostBytes: -1 } }, { onProbe: 1 }, { signal: {} }]) {
      expect(() => findMaxContext(dense, request as never), JSON.stringify(request)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG' }) as Error);
    }
    expect(() => findMaxContext(7 as never)).toThrow(/findMaxContext: path/);
    const text = join(folder, 'text.gguf');
    writeFileSync(text, 'no model');
    await expect(findMaxContext(text)).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
    await expect(findMaxContext(join(folder, 'absent.gguf'))).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_FOUND' });
    await expect(findMaxContext(dense, { devices: ['vulkan9'] })).rejects.toMatchObject({ code: 'ERR_DEVICE_NOT_FOUND' });
    await expect(findMaxContext(dense, { ...cpu, signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  });
});
