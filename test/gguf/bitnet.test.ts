import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe as group, expect, test } from 'vitest';
import { describe, lint, synthesize } from '../../dist/gguf/index.js';
import type { Architecture, Shape } from '../../dist/gguf/index.js';
import { loadModel } from '../../dist/index.js';
import { floats, readTensors } from './read-gguf.js';
import type { FileTensor } from './read-gguf.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-bitnet-'));
afterAll(() => rmSync(folder, { recursive: true }));

const shape = {
  layers: 2, width: 256, feedForward: 512, heads: 4, kvHeads: 2, headSize: 64, vocabulary: 3072, context: 512, ropeBase: 5e5, epsilon: 1e-5, tied: true,
} as const;
const f32 = { types: { matrices: 'f32', embedding: 'f32' } } as const;
type Activation = NonNullable<Shape['activation']>;

async function logits(path: string, token: number): Promise<Float32Array> {
  const model = await loadModel(path, { devices: ['cpu'], context: 128 });
  const result = await model.logits([token]);
  await model.dispose();
  return result;
}

/**
 * What a BitNet model says after one token, from its weights and in double precision. With one token the attention's only
 * weight is 1 and position 0 rotates nothing, so that the values alone pass it.
 */
function reference(tensors: ReadonlyMap<string, FileTensor>, token: number, activation: Activation): number[] {
  const { width, layers, heads, kvHeads, headSize, vocabulary, epsilon } = shape;
  const weights = (name: string) => floats(tensors.get(`${name}.weight`)!);
  const times = (name: string, x: readonly number[]) => {
    const matrix = weights(name);
    return Array.from({ length: matrix.length / x.length }, (_, row) => x.reduce((sum, value, i) => sum + value * matrix[row * x.length + i]!, 0));
  };
  const norm = (name: string, x: readonly number[]) => {
    const scale = 1 / Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / x.length + epsilon);
    const gain = weights(name);
    return x.map((value, i) => value * scale * gain[i]!);
  };
  const act = activation === 'relu2' ? (x: number) => Math.max(0, x) ** 2 : (x: number) => x / (1 + Math.exp(-x));
  let x = [...weights('token_embd').subarray(token * width, (token + 1) * width)];
  for (let i = 0; i < layers; i++) {
    const at = (name: string) => `blk.${i}.${name}`;
    const values = times(at('attn_v'), norm(at('attn_norm'), x));
    const attended = Array.from({ length: heads * headSize }, (_, j) => values[Math.floor(j / headSize / (heads / kvHeads)) * headSize + (j % headSize)]!);
    const out = times(at('attn_output'), norm(at('attn_sub_norm'), attended));
    x = x.map((value, j) => value + out[j]!);
    const inner = norm(at('ffn_norm'), x);
    const up = times(at('ffn_up'), inner);
    const gated = times(at('ffn_gate'), inner).map((value, j) => act(value) * up[j]!);
    const down = times(at('ffn_down'), norm(at('ffn_sub_norm'), gated));
    x = x.map((value, j) => value + down[j]!);
  }
  const head = tensors.has('output.weight') ? 'output' : 'token_embd';
  const result = times(head, norm('output_norm', x));
  expect(result).toHaveLength(vocabulary);
  return result;
}

/** Energy of the difference over that of `expected`. */
function noise(actual: ArrayLike<number>, expected: readonly number[]): number {
  const energy = (of: (i: number) => number) => expected.reduce((sum, _, i) => sum + of(i) ** 2, 0);
  return energy((i) => actual[i]! - expected[i]!) / energy((i) => expected[i]!);
}

group('BitNet computes', () => {
  // The values pass a cache of half precision, which rounds them by up to 2^-11: about 2e-8 of the energy. The other
  // activation differs by hundredths of it in one layer, by more in several.
  const rounding = 1e-6;
  const apart = 0.02;

  test.each<[Architecture, Activation | undefined, boolean, Activation]>([
    ['bitnet', 'relu2', true, 'relu2'],
    ['bitnet', 'silu', true, 'silu'],
    ['bitnet', undefined, true, 'silu'],
    ['bitnet-b1.58', undefined, true, 'relu2'],
    ['bitnet-b1.58', 'silu', true, 'silu'],
    ['bitnet-25', undefined, true, 'relu2'],
    ['bitnet-25', undefined, false, 'relu2'],
  ])('%s, activation %s, tied %s: %s', async (architecture, stated, tied, expected) => {
    const path = join(folder, 'model.gguf');
    await synthesize(path, { ...shape, architecture, tied, ...(stated && { activation: stated }) }, f32);
    const tensors = await readTensors(path);
    const found = await logits(path, 77);
    expect(noise(found, reference(tensors, 77, expected))).toBeLessThan(rounding);
    expect(noise(found, reference(tensors, 77, expected === 'relu2' ? 'silu' : 'relu2'))).toBeGreaterThan(apart);
  });

  test('an activation that is neither is refused', async () => {
    const path = join(folder, 'gelu.gguf');
    await synthesize(path, { ...shape, architecture: 'bitnet', activation: 'silu' }, f32);
    const bytes = readFileSync(path);
    bytes.write('gelu', bytes.indexOf('silu'));
    writeFileSync(path, bytes);
    await expect(loadModel(path, { devices: ['cpu'] })).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED', message: expect.stringContaining("'gelu'") as string });
  });

  // One layer of the true width: nothing but the sizes tells such a file.
  test('the sizes of BitNet-b1.58-2B-4T mean squared ReLU where the file does not say', async () => {
    const sizes = { ...shape, architecture: 'bitnet', layers: 1, width: 2560, feedForward: 6912, heads: 20, kvHeads: 5, headSize: 128, vocabulary: 128_256 } as const;
    const types = { matrices: 'tq2_0', embedding: 'q4_0' } as const;
    const same: Float32Array[] = [];
    for (const activation of [undefined, 'relu2', 'silu'] as const) {
      const path = join(folder, '2b.gguf');
      await synthesize(path, { ...sizes, ...(activation && { activation }) }, { types });
      same.push(await logits(path, 77));
    }
    const [unsaid, relu2, silu] = same.map((row) => [...row]);
    expect(noise(unsaid!, relu2!)).toBe(0);
    expect(noise(unsaid!, silu!)).toBeGreaterThan(apart);
  });
});

group('Microsoft’s names of the architecture', () => {
  test.each<Architecture>(['bitnet-25', 'bitnet-b1.58'])('%s: described, linted and generating', async (architecture) => {
    const path = join(folder, 'named.gguf');
    await synthesize(path, { ...shape, architecture }, { types: { matrices: 'tq2_0', embedding: 'q8_0' } });
    expect(await describe(path)).toMatchObject({ architecture, layers: 2, trainedContext: 512, hasSubNorms: true });
    expect((await describe(path)).kvBytesPerToken.f16).toBe(2 * 2 * 2 * 64 * 2);
    expect(await lint(path)).toEqual([]);
    expect(execFileSync(process.execPath, ['dist/cli/main.js', 'inspect', path], { encoding: 'utf8' })).toContain(`${architecture}.block_count`);
    const model = await loadModel(path, { devices: ['cpu'], context: 128 });
    expect(model.info).toMatchObject({ architecture, layers: 2, trainedContext: 512 });
    const session = await model.session();
    expect((await session.complete('Once', { temperature: 0, ignoreEos: true, maxTokens: 4 })).usage.generated).toBe(4);
    await model.dispose();
  });
});

group('the vocabulary of BitNet-b1.58-2B-4T', () => {
  test.each<[string, string | undefined]>([
    ['llama-spm', 'wrong-vocabulary'],
    ['llama-bpe', undefined],
  ])('%s: %s', async (name, code) => {
    const path = join(folder, 'vocabulary.gguf');
    await synthesize(path, 'bitnet-b1.58-2B-4T', { layers: 1, headerOnly: true, tokenizer: `vendor/llama/models/ggml-vocab-${name}.gguf` });
    expect((await lint(path)).filter(({ severity }) => severity === 'error').map((finding) => finding.code)).toEqual(code === undefined ? [] : [code]);
  });
});
