// A BC-250 (16 GB that GPU and CPU share) with another runner of llama.cpp, a KV cache of q4_0 and ubatches of 512: what its GTT grew by for each
// token of context, from 4K to the deepest that was loaded, three runs each. Public figures of that board, as slopes; what a dry run says
// a longer context takes more has to end within 0.1 GiB of what was read there.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { synthesize } from '../../dist/gguf/index.js';
import type { PresetName } from '../../dist/gguf/presets.js';
import { devices, plan } from '../../dist/index.js';

process.env['GGML_VK_VISIBLE_DEVICES'] = '0';
const gpu = (await devices()).find((device) => device.backend === 'vulkan');
const folder = mkdtempSync(join(tmpdir(), 'ternion-calibration-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Bytes of keys and values for a token by the models' published sizes, bytes that GTT grew by, and the deepest context, in 1024 tokens. */
const measured: readonly [PresetName, number, number, number][] = [
  ['Qwen3-14B', 46_080, 47_935, 32], ['Qwen3-8B', 41_472, 43_067, 32], ['Phi-4-14B', 57_600, 59_419, 16], ['Mistral-Nemo-12B', 46_080, 47_535, 64],
  ['Mistral-Small-3.2-24B', 46_080, 49_807, 32], ['QwQ-32B', 73_728, 75_647, 32], ['Phi-4-mini', 36_864, 38_972, 64], ['Qwen3-30B-A3B', 27_648, 29_959, 32],
  ['Qwen3.5-27B', 18_432, 20_597, 32], ['Qwen3.5-35B-A3B', 5760, 8563, 64], ['gpt-oss-20B', 6912, 9262, 64], ['Gemma-3-4B', 5760, 7165, 64],
  ['Qwen3.5-9B', 9216, 21_671, 64],
];
/** It grew by more than twice what its layers can explain, and nobody knows why. */
const outlier = 'Qwen3.5-9B';

test.skipIf(gpu === undefined)('the deepest context from the reading at 4K: within 0.1 GiB for 12 of 13 models', async () => {
  const errors: Record<string, number> = {};
  for (const [name, keyAndValueBytes, slope, deepest] of measured) {
    const path = join(folder, `${name}.gguf`);
    await synthesize(path, name, { headerOnly: true });
    // One pool, as on that board: buffers of the host that the GPU reads are GTT's too.
    const at = async (context: number) => {
      const { memory } = await plan(path, { devices: [gpu!.id], context, kv: 'q4_0', spareSequences: 0, allowFallback: true, cache: { ramBytes: 0 } });
      const sum = (...parts: ('kvBytes' | 'stateBytes' | 'computeBytes')[]) => memory.reduce((all, part) => all + parts.reduce((bytes, key) => bytes + part[key], 0), 0);
      return { kv: sum('kvBytes'), all: sum('kvBytes', 'stateBytes', 'computeBytes') };
    };
    const [shallow, deep] = [await at(4096), await at(deepest * 1024)];
    const tokens = deepest * 1024 - 4096;
    expect((deep.kv - shallow.kv) / tokens, name).toBe(keyAndValueBytes);
    errors[name] = (deep.all - shallow.all - slope * tokens) / 2 ** 30;
    rmSync(path);
  }
  const { [outlier]: odd, ...others } = errors;
  expect(Object.keys(others)).toHaveLength(12);
  for (const [name, error] of Object.entries(others)) expect(Math.abs(error), name).toBeLessThan(0.1);
  expect(odd).toBeLessThan(-0.5); // a planner needs a measured figure there; were it within, the table would be another one
  expect(odd).toBeGreaterThan(-0.7);
}, 180_000);
