import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { addon } from '../../dist/addon.js';
import { findCeiling } from '../../dist/ceiling/ceiling.js';
import { devices, findMaxContext, limitDevice, plan } from '../../dist/index.js';
import type { Device } from '../../dist/index.js';
import { tuneWith } from '../../dist/tune/tune.js';

process.env['GGML_VK_VISIBLE_DEVICES'] = '0'; // lavapipe
const folder = mkdtempSync(join(tmpdir(), 'ternion-ceiling-gpu-'));
let caches = 0;
beforeEach(() => {
  process.env['XDG_CACHE_HOME'] = join(folder, String(caches++)); // nothing is known at first
});
afterAll(() => {
  delete process.env['XDG_CACHE_HOME'];
  rmSync(folder, { recursive: true, force: true });
});
const gpu = (await devices()).find((device) => device.backend === 'vulkan');
const path = 'models/tern-5m-f16.gguf';
const child = join(folder, 'works.mjs'); // every context that is tried
writeFileSync(child, `console.log('{"result":{"filled":1}}');`);
const on = { devices: [gpu?.id ?? ''], packCache: false, reserve: { hostBytes: 0, deviceBytes: 0 } };

describe.skipIf(gpu === undefined)('a ceiling on a GPU', () => {
  test('ends where the device cannot address a longer context', async () => {
    const found = await findCeiling(path, { ...on, context: { min: 512, max: 1_000_000 } }, child);
    expect(found).toMatchObject({ end: 'unsupported', message: expect.stringMatching(/ works; \d+ was not tried: .*(cannot compute with \d+ bytes at once|refuses FLASH_ATTN_EXT)/) as string });
    expect(found.context).toBe(found.plannedContext);
    expect(found.context).toBeGreaterThan(100_000);
    // The shortest context is the call's own.
    await expect(findCeiling(path, { ...on, context: { min: 1_000_000, max: 1_000_000 } }, child)).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED' });
  }, 120_000);
});

test.skipIf(gpu === undefined)('operations that a plan leaves to the CPU are left to it in probes, too', async () => {
  const jobs = join(folder, 'jobs.txt');
  const recorder = join(folder, 'records.mjs');
  writeFileSync(recorder, `import { appendFileSync } from 'node:fs'; appendFileSync(${JSON.stringify(jobs)}, JSON.parse(process.argv[2]).load.allowFallback + '\\n'); console.log('{"result":{"filled":1}}');`);
  const request = { packCache: false, reserve: { hostBytes: 0, deviceBytes: 0 }, context: { min: 256, max: 256 } };
  await findCeiling(path, request, recorder); // nobody named a device
  const named = await findCeiling(path, { ...request, ...on }, recorder);
  expect(readFileSync(jobs, 'utf8')).toBe('operations\nfalse\n');
  expect(named.settings).toMatchObject({ devices: on.devices, allowFallback: false });
});

describe.skipIf(gpu === undefined)('in a process that is held to less of a GPU’s memory', () => {
  afterEach(async () => {
    vi.restoreAllMocks();
    await limitDevice(gpu!.id);
  });
  const bytesAt = async (context: number) => (await plan(path, { ...on, context, cache: { ramBytes: 0 } })).memory.find(({ device }) => device === gpu!.id)!.bytes;
  /** Room for 256 tokens and not for 512. */
  const limit = async () => limitDevice(gpu!.id, Math.floor((await bytesAt(256) + await bytesAt(512)) / 2));
  /** As if the device said so. */
  const seen = (change: Partial<Device>) => {
    const real = addon().devices.bind(addon());
    vi.spyOn(addon(), 'devices').mockImplementation(async (withGpus) => {
      const found = await real(withGpus);
      return { ...found, devices: found.devices.map((device) => (device.id === gpu!.id ? { ...device, ...change } : device)) };
    });
  };

  test('a probe is held to it too, and fails beyond it', async () => {
    await limit();
    seen({ freeBytes: gpu!.freeBytes }); // the plan’s error
    const only = (context: number) => findMaxContext(path, { ...on, context: { min: context, max: context }, fresh: true });
    expect(await only(512)).toMatchObject({ context: 0, end: 'probe', plannedContext: 512, probes: [{ context: 512, outcome: 'failed', code: 'ERR_OUT_OF_MEMORY' }] });
    expect(await only(64)).toMatchObject({ context: 64, end: 'max', probes: [{ outcome: 'works' }] });
  }, 120_000);

  test('what the limit leaves of a card’s own memory is not probed beyond', async () => {
    await limit();
    seen({ uma: false });
    expect(await findCeiling(path, { ...on, context: { min: 256, max: 512 } }, child)).toMatchObject({ context: 256, end: 'memory', probes: [{ context: 256, outcome: 'works' }] });
  }, 120_000);

  test('samples are held to it', async () => {
    const bytes = 500_000_000; // with the reserve
    await limitDevice(gpu!.id, bytes);
    const limited = join(folder, 'limited.mjs');
    const dist = (file: string) => JSON.stringify(join(process.cwd(), 'dist', file));
    writeFileSync(limited, `import { devices } from ${dist('index.js')};
      import { serve } from ${dist('probe/child.js')};
      await serve(async () => ({ prefill: (await devices()).find(({ id }) => id === ${JSON.stringify(gpu!.id)}).limited?.limitBytes ?? 0, decode: 1, text: '' }));`);
    const found = await tuneWith(path, { devices: on.devices, packCache: false, context: 512, prompt: 64, tokens: 4, rounds: 2, ubatch: [16], kv: [], flashAttention: [] }, limited);
    expect(found.base.prefill.median).toBe(bytes);
  }, 120_000);
});
