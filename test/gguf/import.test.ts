import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, linkSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe as group, expect, test } from 'vitest';
import { importModel, inspect, lint, presets, synthesize } from '../../dist/gguf/index.js';
import type { Shape } from '../../dist/gguf/index.js';
import { loadModel } from '../../dist/index.js';
import { metadata, readTensors } from './read-gguf.js';
import type { FileTensor } from './read-gguf.js';
import { entriesOf, entry, fromTq1, fromTq2, writeI2s } from './ternary-files.js';
import type { Entry, Tensor } from './ternary-files.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-import-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string) => join(folder, name);
const program = (...args: string[]) => spawnSync(process.execPath, ['dist/cli/main.js', ...args], { encoding: 'utf8' });

const shape: Omit<Shape, 'architecture'> = {
  layers: 2, width: 256, feedForward: 512, heads: 4, kvHeads: 2, headSize: 64, vocabulary: 3072, context: 512, ropeBase: 5e5, epsilon: 1e-5, tied: true,
};
const types = { matrices: 'tq2_0', embedding: 'f16' } as const;

/** Of large buffers, which take vitest seconds to compare. */
const same = (a: Buffer | undefined, b: Buffer | undefined) => a !== undefined && b !== undefined && a.equals(b);

/** Energy of the difference over that of `expected`. */
function noise(found: Float32Array, expected: Float32Array): number {
  const energy = (of: (i: number) => number) => expected.reduce((sum, _, i) => sum + of(i) ** 2, 0);
  return energy((i) => found[i]! - expected[i]!) / energy((i) => expected[i]!);
}

async function logits(path: string): Promise<Float32Array> {
  const model = await loadModel(path, { devices: ['cpu'], context: 128 });
  const result = await model.logits([77, 5, 1234, 9]);
  await model.dispose();
  return result;
}

const replaced = (name: string, by: (tensor: Tensor) => Partial<Tensor>) => (tensor: Tensor) => (tensor.name === name ? { ...tensor, ...by(tensor) } : tensor);
const without = (key: string) => (entries: Entry[]) => entries.filter((entry) => entry.key !== key);

beforeAll(async () => {
  await synthesize(file('relu2'), { ...shape, architecture: 'bitnet', activation: 'relu2' }, { types });
  await synthesize(file('microsoft'), { ...shape, architecture: 'bitnet-b1.58' }, { types });
  await writeI2s(file('in'), file('microsoft'));
});

group('I2_S', () => {
  test('of Microsoft’s BitNet becomes TQ2_0, weight for weight', async () => {
    await expect(loadModel(file('in'), { devices: ['cpu'] })).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED' });
    const made = await importModel(file('in'), file('out'));
    expect(made).toMatchObject({ source: 'GGUF with I2_S', architecture: 'bitnet', activation: 'relu2', tensors: { ternary: 14, converted: 0, kept: 10 }, largestScaleError: 0 });
    expect(made.notes.join()).toContain('ARM');
    expect(made.bytes).toBe(readFileSync(file('out')).length);
    const [before, after] = [await readTensors(file('microsoft')), await readTensors(file('out'))];
    expect([...after.keys()]).toEqual([...before.keys()]);
    for (const [name, { type, shape: sizes, data }] of after) {
      expect([name, type, sizes]).toEqual([name, before.get(name)!.type, before.get(name)!.shape]);
      expect(same(data, before.get(name)!.data), name).toBe(true);
    }
    const facts = await metadata(file('out'));
    expect(facts).toMatchObject({ 'general.architecture': 'bitnet', 'bitnet.block_count': 2, 'bitnet.feed_forward.activation': 'relu2', 'general.file_type': 37 });
    expect(Object.keys(facts).filter((key) => key.startsWith('bitnet-'))).toEqual([]);
    const tokenizer = (path: string) => Buffer.concat(entriesOf(path).filter(({ key }) => key.startsWith('tokenizer.')).map(({ bytes }) => bytes));
    expect(same(tokenizer(file('out')), tokenizer(file('in')))).toBe(true);
    expect(await lint(file('out'))).toEqual([]);
    expect(await logits(file('out'))).toEqual(await logits(file('relu2')));
  });

  test('or TQ1_0', async () => {
    await importModel(file('in'), file('out'), { type: 'tq1_0' });
    const before = await readTensors(file('microsoft'));
    let ternary = 0;
    for (const [name, { type, data }] of await readTensors(file('out'))) {
      if (type !== 'tq1_0') continue;
      ternary++;
      const [found, expected] = [fromTq1(data), fromTq2(before.get(name)!.data)];
      expect(same(Buffer.from(found.weights), Buffer.from(expected.weights)), name).toBe(true);
      expect(found.scales).toEqual(expected.scales);
    }
    expect(ternary).toBe(14);
    expect(await metadata(file('out'))).toMatchObject({ 'general.file_type': 36 });
    // The same integers under the same scales: only the order of a few sums may differ.
    expect(noise(await logits(file('out')), await logits(file('relu2')))).toBeLessThan(1e-9);
  });

  test('a scale that half precision does not have is rounded, and the report says by how much', async () => {
    await writeI2s(file('in-third'), file('microsoft'), {
      tensor: replaced('blk.1.ffn_up.weight', ({ data }) => {
        const changed = Buffer.from(data);
        changed.writeFloatLE(1 / 3, data.length - 32);
        return { data: changed };
      }),
    });
    const { largestScaleError } = await importModel(file('in-third'), file('out'));
    const kept = 1365 / 4096; // the nearest one
    expect(largestScaleError).toBeCloseTo(1 - kept / Math.fround(1 / 3), 9);
    expect(new Set(fromTq2((await readTensors(file('out'))).get('blk.1.ffn_up.weight')!.data).scales)).toEqual(new Set([kept]));
  });

  test('other architectures keep their name, and an output head stays', async () => {
    await synthesize(file('llama'), { ...shape, architecture: 'llama', tied: false }, { types });
    await writeI2s(file('in-llama'), file('llama'));
    expect(await importModel(file('in-llama'), file('out'))).toMatchObject({ architecture: 'llama', activation: undefined });
    expect(await metadata(file('out'))).not.toHaveProperty('bitnet.feed_forward.activation');
    expect(await logits(file('out'))).toEqual(await logits(file('llama')));
  });

  test('a pre-tokenizer that llama.cpp does not know is pointed out', async () => {
    await writeI2s(file('in-falcon'), file('llama'), { entries: (all) => [...without('tokenizer.ggml.pre')(all), entry.text('tokenizer.ggml.pre', 'falcon_e')] });
    expect((await importModel(file('in-falcon'), file('out'))).notes.join()).toContain("'falcon_e'");
    await expect(loadModel(file('out'), { devices: ['cpu'] })).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED' });
    await importModel(file('in-falcon'), file('out'), { tokenizer: file('llama') });
    expect(await logits(file('out'))).toEqual(await logits(file('llama')));
  });

  test('a BitNet that does not say its activation, and is none of those that are known, gets none', async () => {
    await synthesize(file('old'), { ...shape, architecture: 'bitnet' }, { types });
    await writeI2s(file('in-old'), file('old'));
    const made = await importModel(file('in-old'), file('out'));
    expect(made.activation).toBeUndefined();
    expect(made.notes.join()).toContain('SiLU');
    expect(await logits(file('out'))).toEqual(await logits(file('old')));
  });

  test('embedding and head can be quantised', async () => {
    const made = await importModel(file('in'), file('out'), { embedding: 'q6_K' });
    expect(made.tensors).toEqual({ ternary: 14, converted: 1, kept: 9 });
    expect((await readTensors(file('out'))).get('token_embd.weight')?.type).toBe('q6_K');
    const [found, expected] = [await logits(file('out')), await logits(file('relu2'))];
    // Six bits of a uniform weight, in the embedding and once more in the head, and int8 activations: some 1e-3 of the energy.
    expect(noise(found, expected)).toBeLessThan(0.01);
    expect(noise(found, expected)).toBeGreaterThan(0);
  });

  test('only the architecture’s name may be foreign', async () => {
    expect(await importModel(file('microsoft'), file('out'))).toMatchObject({ source: 'GGUF', architecture: 'bitnet', activation: 'relu2', tensors: { ternary: 0, kept: 24 } });
    expect(await logits(file('out'))).toEqual(await logits(file('relu2')));
    await expect(importModel(file('relu2'), file('no'))).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED', message: expect.stringContaining('nothing to import') as string });
  });
});

group('the vocabulary of BitNet-b1.58-2B-4T', () => {
  const tokenizer = (name: string) => `vendor/llama/models/ggml-vocab-${name}.gguf`;
  const narrow = { ...shape, layers: 1, architecture: 'bitnet-b1.58', vocabulary: 128_256 } as const;

  test('gets the name of its pre-tokenizer, which Microsoft’s file lacks', async () => {
    await synthesize(file('bpe'), narrow, { types, tokenizer: tokenizer('llama-bpe') });
    await writeI2s(file('in-bpe'), file('bpe'), { entries: without('tokenizer.ggml.pre') });
    const { notes } = await importModel(file('in-bpe'), file('out'));
    expect(notes.join()).toContain('llama-bpe');
    expect(await metadata(file('out'))).toMatchObject({ 'tokenizer.ggml.pre': 'llama-bpe', 'tokenizer.ggml.model': 'gpt2' });
    expect((await lint(file('out'))).filter(({ severity }) => severity === 'error')).toEqual([]);
  });

  test('is refused without its merges, and as a SentencePiece one; another file can give it', async () => {
    await synthesize(file('spm'), narrow, { types, tokenizer: tokenizer('llama-spm') });
    await writeI2s(file('in-spm'), file('spm'));
    await expect(importModel(file('in-spm'), file('no'))).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED', message: expect.stringContaining("kind 'llama'") as string });
    await writeI2s(file('in-bpe'), file('bpe'), { entries: without('tokenizer.ggml.merges') });
    await expect(importModel(file('in-bpe'), file('no'))).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED', message: expect.stringContaining('without its merges') as string });
    expect((await lint(file('bpe'))).map(({ code }) => code)).not.toContain('no-merges');
    await importModel(file('in-spm'), file('out'), { tokenizer: tokenizer('llama-bpe') });
    expect(await metadata(file('out'))).toMatchObject({ 'tokenizer.ggml.model': 'gpt2', 'tokenizer.ggml.pre': 'llama-bpe' });
    await expect(importModel(file('in'), file('no'), { tokenizer: tokenizer('llama-bpe') })).rejects.toThrow(/has 128256 tokens, the embedding 3072 rows/);
  });
});

group('refused', () => {
  const rejects = (input: string, code: string, message: RegExp) => expect(importModel(file(input), file('no'))).rejects.toMatchObject({ code, message: expect.stringMatching(message) as string });
  const named = 'blk.0.attn_q.weight';

  test('files that are none', async () => {
    await rejects('none', 'ERR_MODEL_NOT_FOUND', /no such file/i);
    writeFileSync(file('text'), 'not a model');
    await rejects('text', 'ERR_MODEL_INVALID', /neither with "GGUF" nor with "H1B"/);
    writeFileSync(file('empty'), '');
    await rejects('empty', 'ERR_MODEL_INVALID', /neither/);
  });

  test('a file that is cut, anywhere', async () => {
    const whole = readFileSync(file('in'));
    const { length } = whole;
    for (const at of [4, 7, 23, 30, 100, 5000, 60_000, length / 2, length - 200, length - 33].map(Math.floor)) {
      writeFileSync(file('cut'), whole.subarray(0, at));
      await rejects('cut', 'ERR_MODEL_INVALID', /ends within|begins behind/);
    }
    expect(existsSync(file('no'))).toBe(false);
  });

  test('a header of absurd sizes', async () => {
    const header = (tensors: bigint, entries: bigint, rest: number[] = []) =>
      writeFileSync(file('absurd'), Buffer.concat([Buffer.from('GGUF\x03\0\0\0'), Buffer.from(BigUint64Array.of(tensors, entries).buffer), Buffer.from(Uint8Array.from(rest))]));
    header(2n ** 63n, 0n);
    await rejects('absurd', 'ERR_MODEL_INVALID', /larger than any model/);
    header(0n, 2n ** 40n);
    await rejects('absurd', 'ERR_MODEL_INVALID', /larger than any model/);
    header(0n, 1n, [255, 255, 255, 255, 255, 255, 255, 255]);
    await rejects('absurd', 'ERR_MODEL_INVALID', /ends within its header/);
    header(0n, 1n, [1, 0, 0, 0, 0, 0, 0, 0, 97, 9, 0, 0, 0, 10, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    await rejects('absurd', 'ERR_MODEL_INVALID', /larger than any model/);
    writeFileSync(file('absurd'), Buffer.from('GGUF\0\0\0\x03aaaaaaaaaaaaaaaa'));
    await rejects('absurd', 'ERR_MODEL_INVALID', /expected 2 or 3/);
    for (const sizes of [[2 ** 32, 2 ** 32], [2 ** 51, 1], [0, 5]]) {
      await writeI2s(file('absurd'), file('microsoft'), { tensor: replaced(named, () => ({ shape: sizes })) });
      await rejects('absurd', 'ERR_MODEL_INVALID', /impossible dimensions/);
    }
    await writeI2s(file('absurd'), file('microsoft'), { tensor: replaced(named, () => ({ shape: [256, 2 ** 24] })) });
    await rejects('absurd', 'ERR_MODEL_INVALID', /ends within the tensor blk.0.attn_q.weight/);
  });

  test.each<[string, (tensor: Tensor) => Partial<Tensor>, string, RegExp]>([
    ['rows that are no whole blocks', () => ({ shape: [128, 512] }), 'ERR_MODEL_UNSUPPORTED', /rows of 128 weights; TQ1_0 and TQ2_0 hold whole blocks of 256/],
    ['a code that is no weight', ({ data }) => ({ data: Buffer.concat([Buffer.from([0xff]), data.subarray(1)]) }), 'ERR_MODEL_INVALID', /row 0 has a code/],
    ['a scale that is no number', ({ data }) => ({ data: Buffer.concat([data.subarray(0, -32), Buffer.from([0, 0, 0xc0, 0x7f]), Buffer.alloc(28)]) }), 'ERR_MODEL_INVALID', /scale/],
    ['a scale too large', ({ data }) => ({ data: Buffer.concat([data.subarray(0, -32), Buffer.from(Float32Array.of(1e6).buffer), Buffer.alloc(28)]) }), 'ERR_MODEL_INVALID', /scale 1000000/],
    ['a scale too small', ({ data }) => ({ data: Buffer.concat([data.subarray(0, -32), Buffer.from(Float32Array.of(1e-9).buffer), Buffer.alloc(28)]) }), 'ERR_MODEL_INVALID', /no number of half precision/],
    ['TL1', () => ({ type: 38 }), 'ERR_MODEL_UNSUPPORTED', /TL1 or TL2/],
    ['TL2 under the number of MXFP4', () => ({ type: 39 }), 'ERR_MODEL_UNSUPPORTED', /TL1 or TL2/],
    ['a type that nobody knows', () => ({ type: 99 }), 'ERR_MODEL_UNSUPPORTED', /type number 99/],
    ['a number that means something else', () => ({ type: 42, data: Buffer.alloc(256 * 42) }), 'ERR_MODEL_INVALID', /ends within the tensor/],
    ['the number of I2_S with another size', ({ data }) => ({ data: Buffer.concat([data, Buffer.alloc(64)]) }), 'ERR_MODEL_UNSUPPORTED', /has the number of I2_S, but/],
  ])('%s', async (_, change, code, message) => {
    await writeI2s(file('bad'), file('microsoft'), { tensor: replaced(named, change) });
    await rejects('bad', code, message);
    expect(readdirSync(folder).filter((name) => name.startsWith('no'))).toEqual([]);
  });

  test('no tokenizer, one part of several', async () => {
    await writeI2s(file('bad'), file('microsoft'), { entries: (all) => all.filter(({ key }) => !key.startsWith('tokenizer.')) });
    await rejects('bad', 'ERR_MODEL_UNSUPPORTED', /no tokenizer/);
    const part: Entry = { key: 'split.no', bytes: Buffer.from([2, 0, 0, 0, 0, 0]) };
    await writeI2s(file('bad'), file('microsoft'), { entries: (all) => [...all, part] });
    await rejects('bad', 'ERR_MODEL_UNSUPPORTED', /one part of several/);
  });

  test('to write over what is read, under any of its names', async () => {
    const whole = readFileSync(file('in'));
    symlinkSync(file('in'), file('link'));
    linkSync(file('in'), file('hard'));
    for (const [input, output] of [['in', 'in'], ['in', 'link'], ['link', 'in'], ['in', 'hard']] as const) {
      await expect(importModel(file(input), file(output))).rejects.toMatchObject({ code: 'ERR_INVALID_ARG', message: expect.stringContaining('is the file that is read') as string });
    }
    copyFileSync(file('relu2'), file('vocabulary'));
    await expect(importModel(file('in'), file('vocabulary'), { tokenizer: file('vocabulary') })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
    expect(same(readFileSync(file('in')), whole)).toBe(true);
  });

  test('options that there are not', async () => {
    const call = (options: object) => () => importModel(file('in'), file('no'), options);
    expect(call({ tokeniser: 'x' })).toThrow(/did you mean "tokenizer"/);
    expect(call({ type: 'q4_0' })).toThrow(/one of 'tq2_0', 'tq1_0'/);
    expect(call({ embedding: 'q2_K' })).toThrow(/one of 'f16'/);
    expect(() => importModel(file('in'), 7 as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG' }));
    await expect(importModel(file('in'), file('no'), { tokenizer: file('none') })).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_FOUND' });
  });

  test('no folder, an abort: an error and no half file', async () => {
    await expect(importModel(file('in'), join(folder, 'no', 'such', 'x'))).rejects.toMatchObject({ code: 'ERR_IO' });
    await expect(importModel(file('in'), file('no'), { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    const abort = new AbortController();
    await synthesize(file('in-large'), { ...presets['bitnet-b1.58-2B-4T'].shape, architecture: 'bitnet-b1.58' }, { types, headerOnly: true });
    const fractions: number[] = [];
    const aborted = importModel(file('in-large'), file('no'), { signal: abort.signal, onProgress: (fraction) => (fractions.push(fraction), abort.abort()) });
    await expect(aborted).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect(fractions[0]).toBeLessThan(1);
    expect(readdirSync(folder).filter((name) => name.startsWith('no'))).toEqual([]);
  });

  test.skipIf(process.getuid?.() !== 0)('a full disk [needs hardware: root, to mount one]', async () => {
    const disk = mkdtempSync(join(tmpdir(), 'ternion-disk-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk]);
    try {
      await expect(importModel(file('in'), join(disk, 'x.gguf'))).rejects.toMatchObject({ code: 'ERR_IO', message: expect.stringMatching(/No space left/) as string });
      expect(readdirSync(disk)).toEqual([]);
    } finally {
      execFileSync('umount', [disk]);
      rmSync(disk, { recursive: true });
    }
  });
});

test('ternion import', async () => {
  const { status, stdout, stderr } = program('import', file('in'), file('out'), '--type', 'tq1_0', '--embedding', 'q8_0', '--json');
  expect([status, stderr]).toEqual([0, '']);
  expect(JSON.parse(stdout)).toMatchObject({ file: file('out'), architecture: 'bitnet', tensors: { ternary: 14, converted: 1 } });
  expect((await inspect(file('out'))).tensors.find(({ name }: Pick<FileTensor, 'name'>) => name === 'token_embd.weight')?.type).toBe('q8_0');
  expect(program('import', file('in'), file('out')).stdout).toMatch(/architecture {2}bitnet, feed-forward with relu2\n.*14 ternary, 0 quantised, 10 as they were/);
  expect(program('import', file('in')).status).toBe(2);
  expect(program('import', file('in'), file('out'), '--type', 'q4_0').status).toBe(2);
  expect(program('import', file('in'), file('in')).status).toBe(2);
  truncateSync(file('in'), 1_000_000);
  expect(program('import', file('in'), file('out'))).toMatchObject({ status: 1, stderr: expect.stringContaining('ERR_MODEL_INVALID') as string });
  expect(program('lint', file('in-third')).stdout).toContain('npx ternion import');
});
