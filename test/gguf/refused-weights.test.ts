// Weights of types that their operation cannot take: an error that names them, and a process that goes on.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { addon } from '../../dist/addon.js';
import type { Shape, TensorType } from '../../dist/gguf/index.js';
import { metadataOf, tensorsOf } from '../../dist/gguf/tensors.js';
import { loadModel } from '../../dist/index.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-refused-'));
const path = join(folder, 'model.gguf');
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => delete process.env['TERNION_KERNEL']);

// Heads of 512, so that the factors of RoPE fill a block of 256; as many heads, so that attention sinks do.
const llama: Shape = { architecture: 'llama', layers: 2, width: 256, feedForward: 512, heads: 1, kvHeads: 1, headSize: 512, vocabulary: 4096, context: 512, ropeBase: 1e4, epsilon: 1e-5, tied: false };
const qwen2: Shape = { ...llama, architecture: 'qwen2', headSize: 256 };
const qwen3: Shape = { ...llama, architecture: 'qwen3' };
const gptOss: Shape = { ...llama, architecture: 'gpt-oss', heads: 256, kvHeads: 256, headSize: 64, window: 64, experts: { count: 4, used: 2, feedForward: 256 } };

/** A model of STQ1_0 whose tensor `name` has another type, or is there although others do without. */
async function write(shape: Shape, name: string, type: TensorType): Promise<void> {
  const tensors = tensorsOf(shape, { matrices: 'stq1_0', embedding: 'stq1_0' });
  const there = tensors.some((tensor) => tensor.name === name);
  const changed = tensors.map((tensor) => (tensor.name === name ? { ...tensor, type, random: true, value: 1 } : tensor));
  if (!there) changed.push({ name, type, shape: Int32Array.of(shape.headSize / 2), random: true, value: 1 });
  await addon().synthesize({ path, tokenizer: 'models/tern-5m-tq2_0.gguf', vocabulary: shape.vocabulary, seed: 1, headerOnly: false, metadata: metadataOf(shape, 'refused'), tensors: changed }, null).promise;
}

async function generate(): Promise<number> {
  const model = await loadModel(path, { devices: ['cpu'], context: 128 });
  const { usage } = await (await model.session()).complete('Once', { temperature: 0, maxTokens: 4, ignoreEos: true });
  await model.dispose();
  return usage.generated;
}

const places: [string, Shape, string, string][] = [
  ['a norm', llama, 'blk.1.attn_norm.weight', 'MUL'],
  ['the last norm', llama, 'output_norm.weight', 'MUL'],
  ['a norm of heads', qwen3, 'blk.0.attn_k_norm.weight', 'MUL'],
  ['a bias', qwen2, 'blk.1.attn_q.bias', 'ADD'],
  ['a bias of experts', gptOss, 'blk.0.ffn_down_exps.bias', 'ADD_ID'],
  ['factors of RoPE', llama, 'rope_freqs.weight', 'ROPE'],
  ['attention sinks', gptOss, 'blk.1.attn_sinks.weight', 'SCALE'],
];

describe.each(['', 'upstream', 'float32'])('with TERNION_KERNEL=%s', (kernels) => {
  test.each(places)('%s of STQ1_0: refused by name, type and operation', async (_, shape, name, operation) => {
    process.env['TERNION_KERNEL'] = kernels;
    await write(shape, name, 'stq1_0');
    await expect(generate()).rejects.toMatchObject({
      code: 'ERR_MODEL_UNSUPPORTED',
      message: expect.stringMatching(new RegExp(`tensor ${name.replaceAll('.', '\\.')} has type stq1_0, .* ${operation};.* in f32`)) as string,
    });
    await write(shape, name, 'f32'); // the process goes on, and the same model runs without it
    expect(await generate()).toBe(4);
  });
});

// What llama.cpp takes and computes with only to end the process.
describe.each<TensorType>(['q8_0', 'tq2_0', 'f16', 'bf16'])('%s', (type) => {
  test.each(places)('as %s: refused as well', async (_, shape, name, operation) => {
    await write(shape, name, type);
    await expect(generate()).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED', message: expect.stringContaining(`tensor ${name} has type ${type}, which is not supported by the operation that takes it, ${operation};`) as string });
  });
});

// The CPU says that it multiplies them.
describe.each<[string, TensorType, number]>([['i16', 'f16', 25], ['i32', 'f32', 26]])('matrices of %s', (type, as, number) => {
  test.each([
    ['attention', llama, 'blk.1.attn_q.weight', 'MUL_MAT'],
    ['the embedding', llama, 'token_embd.weight', 'GET_ROWS'],
    ['experts', gptOss, 'blk.0.ffn_down_exps.weight', 'MUL_MAT_ID'],
  ])('%s: refused as well', async (_, shape, name, operation) => {
    await write(shape, name, as);
    const bytes = readFileSync(path);
    const dimensions = bytes.indexOf(name) + name.length;
    bytes.writeUInt32LE(number, dimensions + 4 + 8 * bytes.readUInt32LE(dimensions));
    writeFileSync(path, bytes);
    await expect(generate()).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED', message: expect.stringContaining(`tensor ${name} has type ${type}, which is not supported by the operation that takes it, ${operation};`) as string });
  });
});
