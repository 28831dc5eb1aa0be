import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe as group, expect, test } from 'vitest';
import { importModel, lint, synthesize } from '../../dist/gguf/index.js';
import { loadModel } from '../../dist/index.js';
import { floats, metadata, readTensors } from './read-gguf.js';
import type { FileTensor } from './read-gguf.js';
import { fromTq1, fromTq2, h1bNames, toH1b } from './ternary-files.js';
import type { Matrix } from './ternary-files.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-h1b-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string) => join(folder, name);

const sizes = { hidden: 256, intermediate: 512, layers: 2, heads: 4, kvHeads: 2, vocabulary: 3072 };
const shape = {
  architecture: 'bitnet', layers: 2, width: 256, feedForward: 512, heads: 4, kvHeads: 2, headSize: 64, vocabulary: 3072, context: 512, ropeBase: 5e5, epsilon: 1e-5, tied: true, activation: 'relu2',
} as const;
const tokenizer = 'models/tern-5m-tq2_0.gguf';
let model: ReadonlyMap<string, FileTensor>;

const tensor = (name: string) => model.get(`${name}.weight`)!;
/** A matrix of the model, its block's scale as that of each row. */
function matrix(name: string): Matrix {
  const { data, shape: [, rows] } = tensor(name);
  const { weights, scales } = fromTq2(data);
  return { weights, scales: Array.from({ length: rows! }, (_, row) => scales[row * (scales.length / rows!)]!) };
}
const h1b = (version: number, options?: Parameters<typeof toH1b>[4]) => toH1b(version, sizes, (name) => floats(tensor(name)), matrix, options);

async function logits(path: string): Promise<Float32Array> {
  const loaded = await loadModel(path, { devices: ['cpu'], context: 128 });
  const result = await loaded.logits([77, 5, 1234, 9]);
  await loaded.dispose();
  return result;
}

beforeAll(async () => {
  await synthesize(file('model'), shape, { types: { matrices: 'tq2_0', embedding: 'f32' } });
  model = await readTensors(file('model'));
});

group('h1b', () => {
  test.each([1, 2, 4])('version %i comes out weight for weight, and computes the same', async (version) => {
    writeFileSync(file('in.h1b'), h1b(version));
    const made = await importModel(file('in.h1b'), file('out'), { tokenizer });
    expect(made).toMatchObject({ source: `h1b version ${version}`, architecture: 'bitnet', activation: 'relu2', tensors: { ternary: 14, converted: 0, kept: 10 }, largestScaleError: 0 });
    const found = await readTensors(file('out'));
    expect([...found.keys()].sort()).toEqual([...model.keys()].sort());
    for (const [name, { type, shape: dimensions, data }] of found) {
      expect([type, dimensions], name).toEqual([model.get(name)!.type, model.get(name)!.shape]);
      expect(data.equals(model.get(name)!.data), name).toBe(true);
    }
    expect(await metadata(file('out'))).toMatchObject({
      'general.architecture': 'bitnet', 'general.name': 'in', 'general.file_type': 37, 'bitnet.context_length': 512, 'bitnet.embedding_length': 256, 'bitnet.block_count': 2,
      'bitnet.feed_forward_length': 512, 'bitnet.attention.head_count': 4, 'bitnet.attention.head_count_kv': 2, 'bitnet.rope.dimension_count': 64, 'bitnet.rope.freq_base': 5e5,
      'bitnet.feed_forward.activation': 'relu2', 'bitnet.vocab_size': 3072, 'tokenizer.ggml.model': 'gpt2',
    });
    expect(await lint(file('out'))).toEqual([]);
    expect(await logits(file('out'))).toEqual(await logits(file('model')));
  });

  // Each group of four has one zero; a packer that met more of them wrote +1 for the others, and that is what the file says.
  test('version 3 (Sherry) comes out as the codes stand, each row under its own scale', async () => {
    let state = 7;
    const random = (n: number) => (state = (state * 1_103_515_245 + 12_345) % 2 ** 31) % 65_536 % n;
    const written = new Map<string, Matrix>();
    const sherry = (name: string): Matrix => {
      const { weights, scales } = matrix(name);
      for (let i = 0; i < weights.length; i += 4) {
        const zero = random(4);
        for (let lane = 0; lane < 4; lane++) weights[i + lane] = lane === zero ? 0 : random(2) * 2 - 1;
      }
      const result = { weights, scales: scales.map((_, row) => 0.01 * (1 + (row % 13))) };
      written.set(name, result);
      return result;
    };
    writeFileSync(file('in.h1b'), toH1b(3, sizes, (name) => floats(tensor(name)), sherry, { flags: 2 }));
    for (const type of ['tq2_0', 'tq1_0'] as const) {
      const { largestScaleError, notes } = await importModel(file('in.h1b'), file('out'), { tokenizer, type });
      expect(largestScaleError).toBeGreaterThan(1e-5);
      expect(largestScaleError).toBeLessThanOrEqual(2 ** -11); // half a unit of eleven bits
      expect(notes.join()).toContain('exactly one zero in four');
      const found = await readTensors(file('out'));
      for (let layer = 0; layer < 2; layer++) {
        for (const name of h1bNames.map((each) => `blk.${layer}.${each}`)) {
          const { data, shape: [width] } = found.get(`${name}.weight`)!;
          const { weights, scales } = (type === 'tq2_0' ? fromTq2 : fromTq1)(data);
          const expected = written.get(name)!;
          expect(Buffer.from(weights).equals(Buffer.from(expected.weights)), name).toBe(true);
          for (const [block, scale] of scales.entries()) {
            expect(Math.abs(scale / expected.scales[Math.floor((block * 256) / width!)]! - 1), name).toBeLessThanOrEqual(2 ** -11 + 1e-7);
          }
        }
      }
      expect((await logits(file('out'))).every(Number.isFinite)).toBe(true);
    }
  });

  test('an output head of its own is taken', async () => {
    const head = Float32Array.from({ length: 256 * 3072 }, (_, i) => Math.sin(i));
    writeFileSync(file('in.h1b'), h1b(2, { tied: 0, tail: Buffer.from(head.buffer) }));
    const { tensors, notes } = await importModel(file('in.h1b'), file('out'), { tokenizer });
    expect(tensors.kept).toBe(11);
    expect(notes.join()).toContain('head of its own');
    expect((await readTensors(file('out'))).get('output.weight')!.data.equals(Buffer.from(head.buffer))).toBe(true);
    expect(Buffer.from((await logits(file('out'))).buffer).equals(Buffer.from((await logits(file('model'))).buffer))).toBe(false);
  });

  test('the embedding can be quantised', async () => {
    writeFileSync(file('in.h1b'), h1b(2));
    expect((await importModel(file('in.h1b'), file('out'), { tokenizer, embedding: 'q6_K' })).tensors).toEqual({ ternary: 14, converted: 1, kept: 9 });
    expect((await readTensors(file('out'))).get('token_embd.weight')!.type).toBe('q6_K');
  });
});

group('refused', () => {
  const rejects = async (bytes: Buffer, code: string, message: RegExp, options = {}) => {
    writeFileSync(file('bad.h1b'), bytes);
    await expect(importModel(file('bad.h1b'), file('no'), { tokenizer, ...options })).rejects.toMatchObject({ code, message: expect.stringMatching(message) as string });
    expect(readdirSync(folder).filter((name) => name.startsWith('no'))).toEqual([]);
  };
  const word = (bytes: Buffer, index: number, value: number) => {
    const changed = Buffer.from(bytes);
    changed.writeInt32LE(value, 4 + 4 * index);
    return changed;
  };
  const [version, hidden, intermediate, layers, heads, kvHeads, vocabulary, flags] = [0, 1, 2, 3, 4, 5, 6, 9];

  test('what was trained for another graph, or is no ternary model', async () => {
    await rejects(h1b(2, { flags: 1 }), 'ERR_MODEL_UNSUPPORTED', /Hadamard/);
    await rejects(h1b(2, { flags: 4 }), 'ERR_MODEL_UNSUPPORTED', /Bonsai/);
    await rejects(h1b(2, { flags: 8 }), 'ERR_MODEL_UNSUPPORTED', /Bonsai/);
    await rejects(word(h1b(2), flags, 16), 'ERR_MODEL_UNSUPPORTED', /flags 16/);
    await rejects(word(h1b(2), version, 5), 'ERR_MODEL_UNSUPPORTED', /version 5/);
    await rejects(word(h1b(2), version, 6), 'ERR_MODEL_INVALID', /version 6, expected 1 to 4/);
    await rejects(word(h1b(2), version, 0), 'ERR_MODEL_INVALID', /version 0/);
  });

  test('sizes that cannot be', async () => {
    for (const [index, value] of [[hidden, -256], [intermediate, 0], [layers, 0], [layers, 2 ** 31 - 1], [heads, 3], [heads, 0], [kvHeads, 3], [kvHeads, -1], [vocabulary, 2 ** 31 - 1], [hidden, 2 ** 30]] as const) {
      await rejects(word(h1b(2), index, value), 'ERR_MODEL_INVALID', /impossible sizes/);
    }
    await rejects(word(h1b(2), hidden, 128), 'ERR_MODEL_UNSUPPORTED', /rows of 128 weights; TQ1_0 and TQ2_0 hold whole blocks of 256/);
    await rejects(word(h1b(2), intermediate, 500), 'ERR_MODEL_UNSUPPORTED', /rows of 500 weights/);
    await rejects(word(word(word(h1b(2), hidden, 2 ** 18), layers, 2 ** 12), vocabulary, 2 ** 22), 'ERR_MODEL_INVALID', /its header describes \d{14,}/);
  });

  test('files that are cut, or have more than their header says', async () => {
    const whole = h1b(3, { flags: 2 });
    for (const length of [3, 4, 20, 47, 50, 10_000, whole.length - 1]) await rejects(whole.subarray(0, length), 'ERR_MODEL_INVALID', length < 4 ? /ends within its header/ : /ends within its header|but its header describes/);
    await rejects(Buffer.concat([whole, Buffer.alloc(4)]), 'ERR_MODEL_INVALID', /but its header describes/);
    await rejects(h1b(2, { tied: 0 }), 'ERR_MODEL_INVALID', /with an output head of its own/);
    await rejects(h1b(2, { tied: 0, tail: Buffer.alloc(1024) }), 'ERR_MODEL_INVALID', /with an output head of its own/);
    await rejects(word(whole, version, 4), 'ERR_MODEL_INVALID', /but its header describes/);
  });

  test('codes and scales that are none', async () => {
    const whole = h1b(2);
    const norms = 4 * (256 * 3072 + 256 + 3 * 256 + 5 * 256 + 512); // before the first matrix
    const damaged = Buffer.from(whole);
    damaged[52 + norms + 64 * 5 + 7] = 0xc0;
    await rejects(damaged, 'ERR_MODEL_INVALID', /blk\.0\.attn_q\.weight: row 5 has a code/);
    const scale = Buffer.from(whole);
    scale.writeFloatLE(Infinity, 52 + norms + 64 * 256 + 4 * 9);
    await rejects(scale, 'ERR_MODEL_INVALID', /row 9 has the scale inf/);
    const weight = Buffer.from(whole);
    weight.writeFloatLE(NaN, 52 + 400);
    await rejects(weight, 'ERR_MODEL_INVALID', /token_embd\.weight: a weight that is not finite/, { embedding: 'q8_0' });
  });

  test('without a tokenizer, or with that of another model', async () => {
    await rejects(h1b(2), 'ERR_INVALID_ARG', /no tokenizer/, { tokenizer: undefined });
    await rejects(h1b(2), 'ERR_MODEL_UNSUPPORTED', /has 128256 tokens, the embedding 3072 rows/, { tokenizer: 'vendor/llama/models/ggml-vocab-llama-bpe.gguf' });
    await rejects(h1b(2), 'ERR_MODEL_INVALID', /does not start with/, { tokenizer: 'package.json' });
    await rejects(h1b(2), 'ERR_MODEL_NOT_FOUND', /no such file/i, { tokenizer: file('none') });
  });

  test('to write over what is read', async () => {
    writeFileSync(file('in.h1b'), h1b(2));
    await expect(importModel(file('in.h1b'), file('in.h1b'), { tokenizer })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
    expect(readFileSync(file('in.h1b')).equals(h1b(2))).toBe(true);
  });
});
