import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { devices, findMaxContext, sweepLayers, tune } from '../../dist/index.js';
import type { LayerSweep } from '../../dist/index.js';

process.env['GGML_VK_VISIBLE_DEVICES'] = '0'; // lavapipe
const folder = mkdtempSync(join(tmpdir(), 'ternion-tune-gpu-'));
process.env['XDG_CACHE_HOME'] = folder;
afterAll(() => {
  delete process.env['XDG_CACHE_HOME'];
  rmSync(folder, { recursive: true, force: true });
});
const gpu = (await devices()).find((device) => device.backend === 'vulkan');
const path = 'models/tern-5m-f16.gguf';

describe.skipIf(gpu === undefined)('on a GPU', () => {
  const request = { devices: [gpu?.id ?? ''], packCache: false, context: 512, prompt: 64, tokens: 4, rounds: 2 };

  test('the layers are swept from none to all, and the curve is kept and drawn', async () => {
    const found = await sweepLayers(path, { ...request, layers: [0, 1000] });
    expect(found.figures.map(({ settings }) => settings.gpuLayers)).toEqual([0, found.layers]);
    expect(found).toMatchObject({ devices: request.devices, missing: [], stored: false });
    for (const { prefill, decode } of found.figures) expect(Math.min(prefill.min, decode.min)).toBeGreaterThan(0);
    expect([0, found.layers]).toContain(found.best.decode);
    const args = ['dist/cli/main.js', 'tune', path, '--layers', '--layer-counts', '0,1000', '--device', gpu!.id, '--context', '512', '--prompt', '64', '--tokens', '4', '--rounds', '2'];
    const drawn = execFileSync(process.execPath, args, { encoding: 'utf8' });
    expect(drawn).toMatch(new RegExp(`layers on ${gpu!.id}, of ${found.layers} with the output\\n.*\\n +0 +█+.* tok/s.*\\n +${found.layers} +█+.*\\n\\nfastest decode with \\d+`));
    expect(JSON.parse(execFileSync(process.execPath, [...args, '--json'], { encoding: 'utf8' })) as LayerSweep).toMatchObject({ stored: true, layers: found.layers });
  }, 240_000);

  test('settings are tuned without threads, which do not compute there', async () => {
    const found = await tune(path, { ...request, ubatch: [16], kv: [], flashAttention: [] });
    expect(found.figures.map(({ settings }) => settings)).toEqual([{ ubatch: 16 }]);
    expect(found.settings.devices).toEqual(request.devices);
  }, 120_000);

  test('a ceiling is found', async () => {
    expect(await findMaxContext(path, { devices: request.devices, packCache: false, context: { max: 512 } })).toMatchObject({ context: 512, end: 'max', settings: { devices: request.devices, gpuLayers: 'all' } });
  }, 120_000);
});
