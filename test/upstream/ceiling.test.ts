import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { findCeiling } from '../../dist/ceiling/ceiling.js';
import { devices } from '../../dist/index.js';

process.env['GGML_VK_VISIBLE_DEVICES'] = '0'; // lavapipe
const folder = mkdtempSync(join(tmpdir(), 'ternion-ceiling-gpu-'));
process.env['XDG_CACHE_HOME'] = folder;
afterAll(() => {
  delete process.env['XDG_CACHE_HOME'];
  rmSync(folder, { recursive: true, force: true });
});
const gpu = (await devices()).find((device) => device.backend === 'vulkan');
const path = 'models/tern-5m-f16.gguf';
const on = { devices: [gpu?.id ?? ''], packCache: false, reserve: { hostBytes: 0, deviceBytes: 0 } };

describe.skipIf(gpu === undefined)('a ceiling on a GPU', () => {
  test('ends where the device cannot address a longer context', async () => {
    const child = join(folder, 'works.mjs'); // every context that is tried
    writeFileSync(child, `console.log('{"result":{"filled":1}}');`);
    const found = await findCeiling(path, { ...on, context: { min: 512, max: 1_000_000 } }, child);
    expect(found).toMatchObject({ end: 'unsupported', message: expect.stringMatching(/ works; \d+ was not tried: .*(cannot compute with \d+ bytes at once|refuses FLASH_ATTN_EXT)/) as string });
    expect(found.context).toBe(found.plannedContext);
    expect(found.context).toBeGreaterThan(100_000);
    // The shortest context is the call's own.
    await expect(findCeiling(path, { ...on, context: { min: 1_000_000, max: 1_000_000 } }, child)).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED' });
  }, 120_000);
});
