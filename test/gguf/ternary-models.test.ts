import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { inspect, presets, synthesize } from '../../dist/gguf/index.js';
import type { Preset, PresetName, Types } from '../../dist/gguf/index.js';
import { loadModel } from '../../dist/index.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-ternary-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string) => join(folder, name);
const quantize = '.build/cmake/bin/llama-quantize';

async function logits(path: string): Promise<Float32Array> {
  const model = await loadModel(path, { devices: ['cpu'], context: 128 });
  const result = await model.logits([77, 5, 1234, 9, 41, 800]);
  await model.dispose();
  return result;
}

/** Energy of the difference over that of `expected`. */
function noise(found: Float32Array, expected: Float32Array): number {
  let [difference, energy] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    difference += (found[i]! - expected[i]!) ** 2;
    energy += expected[i]! ** 2;
  }
  return difference / energy;
}

/**
 * The weights of a file as upstream's own dequantisation writes them, in single precision: the same model without any
 * quantised product. The quantised one rounds activations to int8, in blocks whose largest value is about 3 deviations:
 * steps of 3/127 deviations, so 3 / 127 / sqrt(12) = 0.7 % of noise in each product, 5e-5 of its energy. A few such products
 * follow one another in each of two layers, and squared ReLU doubles what it passes on: 8e-5 to 3e-4 are found, at most a
 * third of the limit. Another activation, the smallest mistake of those that are looked for, makes 7e-2.
 */
const limit = 1e-3;
const wrong = 0.05;

// Cut in depth and width; heads keep their size and their share of keys and values.
test.each<[PresetName, Types['matrices']]>([
  ['bitnet-b1.58-2B-4T', 'tq2_0'],
  ['bitnet-b1.58-2B-4T', 'tq1_0'],
  ['TriLM-3.9B', 'tq2_0'],
  ['TriLM-3.9B', 'tq1_0'],
  ['Falcon3-7B-1.58', 'tq2_0'],
  ['Falcon-E-1B', 'tq2_0'],
  ['Falcon-E-1B', 'tq1_0'],
  ['Llama3-8B-1.58', 'tq2_0'],
  ['Bonsai-1.7B', 'q1_0'],
  ['Bonsai-8B', 'q1_0'],
  ['Ternary-Bonsai-8B', 'q2_0'],
])('%s in %s predicts as its weights in single precision do', { timeout: 120_000 }, async (name, type) => {
  const { shape: whole }: Preset = presets[name];
  const heads = 1024 / whole.headSize;
  const shape = { ...whole, width: 1024, feedForward: 2048, heads, kvHeads: Math.ceil((heads * whole.kvHeads) / whole.heads), vocabulary: 3072, context: 512 };
  const options = { layers: 2, types: { matrices: type, embedding: 'f16', head: 'f16' } } as const;
  await synthesize(file('ternary'), shape, options);
  execFileSync(quantize, ['--allow-requantize', file('ternary'), file('twin'), 'F32'], { stdio: 'ignore' });
  const expected = await logits(file('twin'));
  expect(expected.every(Number.isFinite)).toBe(true);
  const found = noise(await logits(file('ternary')), expected);
  expect(found).toBeLessThan(limit);
  expect(found).toBeGreaterThan(0); // two ways to compute, not one file read twice
  // That the limit tells models apart: other weights, and for BitNet the other activation.
  await synthesize(file('ternary'), shape, { ...options, seed: 2 });
  expect(noise(await logits(file('ternary')), expected)).toBeGreaterThan(wrong);
  if (shape.architecture !== 'bitnet') return;
  await synthesize(file('ternary'), { ...shape, activation: 'silu' }, options);
  expect(noise(await logits(file('ternary')), expected)).toBeGreaterThan(wrong);
});

// Falcon-E's own vocabulary of 32,768 tokens is not here; that of Falcon is larger, and goes by the same rules.
test('Falcon-E-1B loads with a vocabulary of Falcon’s pre-tokenizer', async () => {
  const tokenizer = 'vendor/llama/models/ggml-vocab-falcon.gguf';
  const [{ shape }, vocabulary] = [presets['Falcon-E-1B'] as Preset, 65_024];
  await synthesize(file('falcon'), { ...shape, vocabulary }, { layers: 2, types: { matrices: 'tq2_0', embedding: 'q6_K' }, tokenizer });
  const { metadata, tensors } = await inspect(file('falcon'));
  expect(metadata.find(({ key }) => key === 'tokenizer.ggml.pre')?.value).toBe('falcon');
  expect(tensors.filter(({ name }) => name.includes('sub_norm'))).toEqual([]);
  const model = await loadModel(file('falcon'), { devices: ['cpu'], context: 128 });
  expect(model.info).toMatchObject({ architecture: 'llama', vocabulary, embeddingSize: 2048 });
  // Three digits at most make a token, and punctuation stands alone.
  const pieces = await Promise.all([...(await model.tokenize('In 20245 !! days'))].map((token) => model.detokenize([token])));
  expect(pieces.join('')).toBe('In 20245 !! days');
  expect(pieces.filter((piece) => /\d/.test(piece))).toEqual(['202', '45']);
  const { usage, logprobs } = await (await model.session()).complete('In 20245 days', { temperature: 0, ignoreEos: true, maxTokens: 4, logprobs: 1 });
  expect(usage.generated).toBe(4);
  for (const { logprob } of logprobs) expect(Number.isFinite(logprob)).toBe(true);
  await model.dispose();
});
