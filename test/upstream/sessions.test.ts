import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { synthesize } from '../../dist/gguf/index.js';

// The random walk of native/test/sessions_test.cc where ctest does not take it: a model with a sliding window, which we make, and
// lavapipe. Few operations there, where a token takes milliseconds. Seed 12's prompts outgrow the scratch of those before them, which Mesa 22.3's
// lavapipe does not survive without a patch of ours (0027); with weights of 32 bits, as it rounds a long batch's activations to those of F16.
const folder = mkdtempSync(join(tmpdir(), 'ternion-'));
afterAll(() => rmSync(folder, { recursive: true }));

function walk(model: string, device: string, kv: string, operations: number, seed = 1): number {
  const env = { ...process.env, GGML_VK_VISIBLE_DEVICES: '0' };
  const output = execFileSync('.build/cmake/bin/sessions_test', [model, device, kv, String(operations), String(seed)], { encoding: 'utf8', env });
  return Number(/(\d+) tokens compared/.exec(output)?.[1]);
}

/** A model of the repository's with weights of 32 bits. */
function inFloat32(model: string): string {
  const path = join(folder, `${model}-float32.gguf`);
  execFileSync('.build/cmake/bin/llama-quantize', ['--allow-requantize', `models/${model}.gguf`, path, 'F32'], { stdio: 'pipe' });
  return path;
}

test('a sliding window', { timeout: 120_000 }, async () => {
  const path = join(folder, 'windowed.gguf');
  const shape = { architecture: 'gemma3', layers: 6, width: 128, feedForward: 256, heads: 4, kvHeads: 2, headSize: 64, vocabulary: 4096, context: 2048, ropeBase: 1e6, epsilon: 1e-6, tied: true, window: 80 } as const;
  await synthesize(path, shape, { types: { matrices: 'f16', embedding: 'f16' } });
  expect(walk(path, 'cpu', 'f16', 300)).toBeGreaterThan(1000);
});

test.each([
  ['tern-5m-f16', 'f16', 10],
  ['tern-5m-f16', 'q8_0', 10],
  ['tern-moe-6m-f16', 'f16', 8],
  ['tern-hybrid-random', 'q8_0', 5],
])('lavapipe: %s, %s', { timeout: 300_000 }, (model, kv, operations) => {
  expect(walk(`models/${model}.gguf`, 'vulkan0', kv, operations)).toBeGreaterThan(8);
});

test.each(['tern-5m-f16', 'tern-moe-6m-f16'])('lavapipe: scratch that is outgrown, %s', { timeout: 300_000 }, (model) => {
  expect(walk(inFloat32(model), 'vulkan0', 'f16', 8, 12)).toBeGreaterThan(8);
});
