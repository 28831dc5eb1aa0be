import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { linkSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { inspect, quantize, quantizeTypes, synthesize } from '../../dist/gguf/index.js';
import type { QuantizeOptions, QuantizeType, Shape } from '../../dist/gguf/index.js';
import { loadModel } from '../../dist/index.js';
import * as weightsModule from '../../models/check/weights.mjs';
import { byUpstream, facts, importance, matrix, upstream, writeImatrix } from './quantize-models.js';
import { writeGguf } from './write-gguf.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-quantize-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string) => join(folder, name);
const dense = file('dense.gguf'); // random weights, F16, with a head of its own
const mixture = file('mixture.gguf');
const imatrix = file('model.imatrix');
const shipped = 'models/tern-5m-sherry-stq1_0.gguf';
const sherry = file('sherry-f16.gguf'); // its weights as floats
const ternary = 'models/tern-5m-tq2_0.gguf';

const shape: Shape = {
  architecture: 'llama', layers: 2, width: 256, feedForward: 512, heads: 4, kvHeads: 2, headSize: 64, vocabulary: 4096, context: 512, ropeBase: 1e4, epsilon: 1e-5, tied: false,
};

beforeAll(async () => {
  const types = { matrices: 'f16', embedding: 'f16' } as const;
  await quantize(shipped, sherry, 'F16');
  await synthesize(dense, shape, { types });
  await synthesize(mixture, { ...shape, architecture: 'qwen3moe', layers: 1, experts: { count: 8, used: 2, feedForward: 256 } }, { types });
  await writeImatrix(imatrix, dense);
  await writeImatrix(file('mixture.imatrix'), mixture);
});

// Decoders that are not ggml's.
const weightsOf = weightsModule.weightsOf as (path: string, type: string) => Promise<Map<string, Float32Array>>;
const sameBytes = (a: string, b: string) => readFileSync(a).equals(readFileSync(b));
const leftOvers = () => readdirSync(folder).filter((name) => name.startsWith('out'));

describe('upstream', () => {
  test('has the same types', () => {
    const { stdout } = spawnSync(upstream, ['--help'], { encoding: 'utf8' });
    const listed = stdout.split('allowed quantization types')[1] ?? '';
    const names = [...listed.matchAll(/^ +(?:\d+ +or +)?([A-Z][A-Z0-9_]+) *:/gm)].map(([, name]) => name);
    expect([...quantizeTypes].sort()).toEqual(names.sort());
  });

  const theirs = (input: string, type: string, options: readonly string[] = []) => {
    expect(byUpstream(folder, ...options, input, file('theirs.gguf'), type)).toBe('');
    return file('theirs.gguf');
  };

  test.each(quantizeTypes.filter((type) => !/^IQ[123]|Q2_K_S/.test(type)))('%s is the same file, byte for byte', async (type) => {
    const { bytes } = await quantize(dense, file('ours.gguf'), type, { force: true });
    expect(statSync(file('ours.gguf')).size).toBe(bytes);
    expect(sameBytes(file('ours.gguf'), theirs(dense, type))).toBe(true);
  });

  // quantize.long.test.ts has the others, whose tables take seconds to build.
  test.each(quantizeTypes.filter((type) => /^I?Q|^STQ/.test(type) && !/^IQ[12]|^IQ3_XXS/.test(type)))('%s with an importance matrix, too', { timeout: 30_000 }, async (type) => {
    await quantize(dense, file('ours.gguf'), type, { force: true, imatrix });
    expect(sameBytes(file('ours.gguf'), theirs(dense, type, ['--imatrix', 'model.imatrix']))).toBe(true);
  });

  test.each<QuantizeType>(['Q4_K_M', 'IQ4_XS', 'Q2_K', 'MXFP4_MOE'])('%s of a mixture', async (type) => {
    await quantize(mixture, file('ours.gguf'), type, { imatrix: file('mixture.imatrix') });
    expect(sameBytes(file('ours.gguf'), theirs(mixture, type, ['--imatrix', 'mixture.imatrix']))).toBe(true);
  });

  test('types of embedding and head', async () => {
    const { tensors } = await quantize(dense, file('ours.gguf'), 'Q4_K_M', { embedding: 'q8_0', head: 'f32' });
    expect(tensors.find(({ name }) => name === 'token_embd.weight')).toMatchObject({ from: 'f16', to: 'q8_0', lossless: false });
    expect(tensors.find(({ name }) => name === 'output.weight')).toMatchObject({ from: 'f16', to: 'f32', lossless: true, relativeError: 0 });
    expect(sameBytes(file('ours.gguf'), theirs(dense, 'Q4_K_M', ['--token-embedding-type', 'q8_0', '--output-tensor-type', 'f32']))).toBe(true);
  });
});

describe('the relative error', () => {
  test('is what an independent reading of both files gives', async () => {
    const { tensors, relativeError, lossless } = await quantize(dense, file('ours.gguf'), 'STQ1_0', { force: true });
    const before = await weightsOf(dense, 'f16');
    const after = await weightsOf(file('ours.gguf'), 'stq1_0');
    expect(after.size).toBe(14);
    for (const [name, weights] of after) {
      const was = before.get(name) ?? new Float32Array();
      let [difference, square] = [0, 0];
      for (let i = 0; i < weights.length; i++) {
        difference += ((was[i] ?? 0) - (weights[i] ?? 0)) ** 2;
        square += (was[i] ?? 0) ** 2;
      }
      const reported = tensors.find((tensor) => tensor.name === name)?.relativeError ?? 0;
      expect(reported / (difference / square)).toBeCloseTo(1, 9);
    }
    expect(lossless).toBe(false);
    const converted = tensors.filter(({ from, to }) => from !== to).map((tensor) => tensor.relativeError);
    expect(relativeError).toBeGreaterThan(Math.min(...converted));
    expect(relativeError).toBeLessThan(Math.max(...converted));
    expect(tensors.find(({ name }) => name === 'output_norm.weight')).toMatchObject({ from: 'f32', to: 'f32', relativeError: 0, lossless: true });
  });

  test('an importance matrix makes the error smaller where it matters', async () => {
    const before = await weightsOf(dense, 'f16');
    const weighted = async (options: QuantizeOptions) => {
      await quantize(dense, file('ours.gguf'), 'STQ1_0', { ...options, force: true });
      let sum = 0;
      for (const [name, weights] of await weightsOf(file('ours.gguf'), 'stq1_0')) {
        const was = before.get(name) ?? new Float32Array();
        const columns = name.includes('ffn_down') ? 512 : 256;
        for (let i = 0; i < weights.length; i++) sum += importance(i % columns) * ((was[i] ?? 0) - (weights[i] ?? 0)) ** 2;
      }
      return sum;
    };
    expect(await weighted({ imatrix })).toBeLessThan(0.8 * (await weighted({})));
  });
});

describe('ternary weights', () => {
  /** Hashes of the layers' matrices, by name; 0 and -0 are one number. */
  const blocks = async (path: string, type: string) =>
    new Map([...(await weightsOf(path, type))].filter(([name]) => name.startsWith('blk.')).map(([name, weights]) => [name, createHash('sha256').update(weights.map((weight) => weight + 0)).digest('hex')]));

  test('Sherry becomes STQ1_0 without loss, loads and tells a story', async () => {
    const out = file('sherry.gguf');
    const { tensors } = await quantize(sherry, out, 'STQ1_0', { embedding: 'q8_0' });
    const matrices = tensors.filter(({ to }) => to === 'stq1_0');
    expect(matrices).toHaveLength(tensors.filter(({ name }) => /^blk\..*(attn_[qkvo]|ffn_(up|gate|down))(utput)?\.weight$/.test(name)).length);
    expect(matrices.length).toBeGreaterThan(10);
    for (const tensor of matrices) expect(tensor).toMatchObject({ from: 'f16', lossless: true, relativeError: 0 });
    expect(await blocks(out, 'stq1_0')).toEqual(await blocks(sherry, 'f16'));
    expect(await blocks(out, 'stq1_0')).toEqual(await blocks(shipped, 'stq1_0'));
    const { metadata } = await inspect(out);
    expect(metadata.find(({ key }) => key === 'general.stq1_0.layout')?.value).toBe('stride16');
    expect(metadata.find(({ key }) => key === 'general.file_type')?.value).toBe(42);
    expect(metadata.find(({ key }) => key === 'tokenizer.chat_template')?.value).toEqual((await inspect(sherry)).metadata.find(({ key }) => key === 'tokenizer.chat_template')?.value);
    const model = await loadModel(out, { devices: ['cpu'], context: 256 });
    const session = await model.session();
    const { text } = await session.complete('Once upon a time', { temperature: 0, maxTokens: 24 });
    expect(text).toMatch(/[a-z]{3,} [a-z]{2,}/);
    await model.dispose();
  });

  test('go from every ternary type to every other that holds them', async () => {
    const original = await blocks(sherry, 'f16');
    await quantize(sherry, file('from-STQ1_0'), 'STQ1_0');
    await quantize(sherry, file('from-TQ1_0'), 'TQ1_0');
    await quantize(sherry, file('from-TQ2_0'), 'TQ2_0');
    await quantize(sherry, file('from-Q2_0'), 'Q2_0');
    for (const from of ['STQ1_0', 'TQ1_0', 'TQ2_0', 'Q2_0'] as const) {
      for (const to of ['STQ1_0', 'TQ1_0', 'TQ2_0', 'Q2_0', 'F16', 'F32'] as const) {
        if (from === to) continue;
        const { tensors, lossless } = await quantize(file(`from-${from}`), file('to'), to);
        expect(lossless || to.startsWith('F'), `${from} → ${to}`).toBe(true); // the embedding's Q6_K is no half
        const matrices = tensors.filter((tensor) => tensor.from === from.toLowerCase());
        expect(matrices.length).toBeGreaterThan(10);
        expect(matrices.every((tensor) => tensor.lossless && tensor.to === to.toLowerCase()), `${from} → ${to}`).toBe(true);
        if (['STQ1_0', 'TQ2_0', 'F16'].includes(to)) expect(await blocks(file('to'), to.toLowerCase())).toEqual(original);
        const marker = (await inspect(file('to'))).metadata.some(({ key }) => key === 'general.stq1_0.layout');
        expect(marker, `${from} → ${to}`).toBe(to === 'STQ1_0');
      }
    }
  });

  test('the twin becomes the file that ships', async () => {
    await quantize('models/tern-5m-f16.gguf', file('twin.gguf'), 'TQ2_0', { embedding: 'q8_0' });
    const tensors = async (path: string) => {
      const { dataOffset, tensors } = await inspect(path);
      const bytes = readFileSync(path);
      return new Map(tensors.map(({ name, type, bytes: size, offset }) => [name, type === 'q8_0' ? size : bytes.subarray(dataOffset + offset, dataOffset + offset + size).toString('base64')]));
    };
    expect(await tensors(file('twin.gguf'))).toEqual(await tensors(ternary));
  });

  test('with any number of zeros are not Sherry, and are refused', async () => {
    await expect(quantize(ternary, file('out'), 'STQ1_0')).rejects.toMatchObject({
      code: 'ERR_MODEL_UNSUPPORTED',
      message: expect.stringMatching(/blk\.0\.\w+\.weight were not trained for stq1_0: their relative error would be 0\.\d+, more than 0\.02.*force/) as string,
    });
    expect(leftOvers()).toEqual([]);
  });

  test.each<QuantizeType>(['TQ1_0', 'TQ2_0', 'STQ1_0', 'Q1_0', 'Q2_0'])('%s of dense weights is refused, unless it is forced', async (type) => {
    const failure = (await quantize(dense, file('out'), type).catch((error: unknown) => error)) as { code: string; message: string; details: { tensor: string; relativeError: number } };
    expect(failure.code).toBe('ERR_MODEL_UNSUPPORTED');
    expect(failure.details.tensor).toMatch(type === 'Q1_0' ? /^token_embd/ : /^blk\.0\./); // as upstream, which takes the embedding, too
    expect(failure.details.relativeError).toBeGreaterThan(0.02);
    expect(failure.message).toContain(failure.details.tensor);
    expect(failure.message).toContain(Number(failure.details.relativeError.toPrecision(2)).toString());
    expect(leftOvers()).toEqual([]);
    const { tensors } = await quantize(dense, file('out'), type, { force: true });
    expect(tensors.find(({ name }) => name === failure.details.tensor)?.relativeError).toBe(failure.details.relativeError);
    rmSync(file('out'));
  });

  test('one dense tensor is enough', async () => {
    await expect(quantize(sherry, file('out'), 'STQ1_0', { embedding: 'tq2_0' })).rejects.toThrow(/token_embd\.weight were not trained for tq2_0/);
    expect(leftOvers()).toEqual([]);
  });
});

describe('what was rounded before', () => {
  test('is not rounded again unasked; an embedding beside ternary weights stays as it is', async () => {
    const q8 = file('q8.gguf');
    await quantize(dense, q8, 'Q8_0');
    await expect(quantize(q8, file('out'), 'Q4_K_M')).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED', message: expect.stringMatching(/rounded to q8_0 before.*worse model/) as string });
    expect(leftOvers()).toEqual([]);
    await quantize(q8, file('again'), 'Q4_K_M', { allowRequantize: true });
    expect((await quantize(q8, file('float'), 'F32')).lossless).toBe(true); // nothing is rounded
    const { tensors, lossless } = await quantize(ternary, file('tq1'), 'TQ1_0');
    expect(tensors.find(({ name }) => name === 'token_embd.weight')).toMatchObject({ from: 'q8_0', to: 'q8_0' });
    expect(lossless).toBe(true);
    await expect(quantize(ternary, file('out'), 'TQ1_0', { embedding: 'q4_K' })).rejects.toThrow(/token_embd\.weight was rounded to q8_0 before/);
    expect((await quantize(ternary, file('tq1'), 'TQ1_0', { embedding: 'q4_K', allowRequantize: true })).lossless).toBe(false);
  });
});

describe('files', () => {
  const tensors = [matrix('token_embd.weight', 8, 1), matrix('blk.0.ffn_up.weight', 256, 2), matrix('blk.0.ffn_down.weight', 256, 3)];
  const weightBytes = async (path: string) => readFileSync(path).subarray((await inspect(path)).dataOffset);

  test('a split model is read from any of its parts, and becomes one file', async () => {
    const part = (n: number) => file(`split-0000${n}-of-00002.gguf`);
    const split = (n: number) => ({ 'split.no': { u16: n }, 'split.count': { u16: 2 }, 'split.tensors.count': { i32: 3 } });
    writeGguf(part(1), { ...facts, ...split(0) }, tensors.slice(0, 2));
    writeGguf(part(2), { ...split(1) }, tensors.slice(2));
    writeGguf(file('whole.gguf'), facts, tensors);
    await quantize(file('whole.gguf'), file('one'), 'Q8_0');
    for (const n of [1, 2]) {
      const { inputBytes } = await quantize(part(n), file('joined'), 'Q8_0');
      expect(inputBytes).toBe(statSync(part(1)).size + statSync(part(2)).size);
      expect(sameBytes(file('joined'), file('one'))).toBe(true);
    }
    const { metadata, tensors: found } = await inspect(file('joined'));
    expect(metadata.some(({ key }) => key.startsWith('split.'))).toBe(false);
    expect(found).toHaveLength(3);
    await expect(quantize(part(1), part(2), 'Q8_0')).rejects.toThrow(/is the input .* itself/);
    expect((await quantize(part(1), file('copy'), 'COPY')).tensors.every(({ from, to }) => from === to)).toBe(true);
    rmSync(part(2));
    await expect(quantize(part(1), file('out'), 'Q8_0')).rejects.toThrow(/1 of its parts are missing, .*split-00002-of-00002\.gguf/);
  });

  test("an alignment of the input's own is not inherited", async () => {
    writeGguf(file('plain.gguf'), facts, tensors);
    writeGguf(file('wide.gguf'), { ...facts, 'general.alignment': 4096 }, tensors);
    await quantize(file('plain.gguf'), file('a'), 'Q8_0');
    await quantize(file('wide.gguf'), file('b'), 'Q8_0');
    expect((await weightBytes(file('a'))).equals(await weightBytes(file('b')))).toBe(true);
  });

  test('rows that no block fits into fall back as upstream lets them; a type that was asked for is an error', async () => {
    await expect(quantize(file('odd.gguf'), file('out'), 'Q8_0')).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_FOUND' });
    await synthesize(file('odd.gguf'), { ...shape, width: 288, heads: 4, kvHeads: 4, headSize: 72 }, { types: { matrices: 'f16', embedding: 'f16' } });
    const { tensors: found } = await quantize(file('odd.gguf'), file('odd-out'), 'Q4_K_M');
    expect(found.find(({ name }) => name === 'blk.0.attn_q.weight')?.to).toBe('q5_0');
    await expect(quantize(file('odd.gguf'), file('out'), 'Q8_0', { embedding: 'q6_K' })).rejects.toThrow(/rows of q6_K are multiples of 256 weights, and those of token_embd.weight have 288/);
    await expect(quantize(file('odd.gguf'), file('out'), 'Q8_0', { head: 'iq4_xs' })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG', details: { argument: 'options.head' } });
    expect(leftOvers()).toEqual([]);
  });

  test('weights that are no numbers, empty tensors, cut files and other architectures are errors', async () => {
    const broken = (n: number) => writeGguf(file('broken.gguf'), facts, tensors.map((tensor, i) => (i === n ? { ...tensor, data: Buffer.alloc(tensor.bytes, 0xff) } : tensor)));
    broken(1);
    await expect(quantize(file('broken.gguf'), file('out'), 'Q8_0')).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID', message: expect.stringMatching(/blk\.0\.ffn_up\.weight' has invalid data/) as string });
    writeGguf(file('broken.gguf'), facts, [...tensors, { name: 'blk.0.attn_q.weight', shape: [0, 8], type: 0, bytes: 0 }]);
    await expect(quantize(file('broken.gguf'), file('out'), 'Q8_0')).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
    writeFileSync(file('broken.gguf'), readFileSync(dense).subarray(0, 1_000_000));
    await expect(quantize(file('broken.gguf'), file('out'), 'Q8_0')).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
    writeGguf(file('broken.gguf'), { ...facts, 'general.architecture': 'nobody' }, tensors);
    await expect(quantize(file('broken.gguf'), file('out'), 'Q8_0')).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED', message: expect.stringMatching(/unknown model architecture: 'nobody'/) as string });
    await expect(quantize('package.json', file('out'), 'Q8_0')).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
    expect(leftOvers()).toEqual([]);
  });

  test('the input is never written to, whatever it is called', async () => {
    const before = readFileSync(dense);
    symlinkSync(dense, file('link.gguf'));
    linkSync(dense, file('hard.gguf'));
    for (const out of [dense, file('link.gguf'), file('hard.gguf'), `${folder}/./dense.gguf`]) {
      await expect(quantize(dense, out, 'Q4_0'), out).rejects.toMatchObject({ code: 'ERR_INVALID_ARG', message: expect.stringMatching(/is the input .* itself/) as string });
    }
    await expect(quantize(dense, imatrix, 'Q4_0', { imatrix })).rejects.toThrow(/is the input .* itself/);
    expect(readFileSync(dense).equals(before)).toBe(true);
  });

  test('no folder, no file system, a device: an error, and the device is still one', async () => {
    for (const out of [join(folder, 'no', 'such', 'out'), '/proc/out.gguf', folder, '/dev/null']) await expect(quantize(dense, out, 'Q4_0'), out).rejects.toMatchObject({ code: 'ERR_IO' });
    expect(statSync('/dev/null').isCharacterDevice()).toBe(true);
  });

  test('what fails leaves the file that was there', async () => {
    writeFileSync(file('out'), 'precious');
    const abort = new AbortController();
    await expect(quantize(dense, file('out'), 'TQ2_0')).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED' });
    await expect(quantize(dense, file('out'), 'Q3_K_M', { imatrix, signal: abort.signal, onProgress: () => abort.abort(new Error('enough')) })).rejects.toMatchObject({ code: 'ERR_ABORTED', cause: new Error('enough') });
    await expect(quantize(dense, file('out'), 'Q8_0', { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect(readFileSync(file('out'), 'utf8')).toBe('precious');
    expect(leftOvers()).toEqual(['out']);
    rmSync(file('out'));
  });

  test('progress grows to 1', async () => {
    const seen: number[] = [];
    await quantize(dense, file('ours.gguf'), 'Q5_K_M', { imatrix, onProgress: (fraction) => seen.push(fraction) });
    expect(seen.length).toBeGreaterThan(2);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(seen.at(-1)).toBe(1);
  });

  test.skipIf(process.getuid?.() !== 0)('a full disk [needs hardware: root, to mount one]', async () => {
    const disk = mkdtempSync(join(tmpdir(), 'ternion-disk-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', disk]);
    try {
      for (const type of ['F32', 'Q8_0', 'Q4_0'] as const) {
        await expect(quantize(dense, join(disk, 'x.gguf'), type), type).rejects.toMatchObject({ code: 'ERR_IO', message: expect.stringMatching(/No space left/) as string });
        expect(readdirSync(disk)).toEqual([]);
      }
    } finally {
      execFileSync('umount', [disk]);
      rmSync(disk, { recursive: true });
    }
  });
});

describe('an importance matrix', () => {
  test('in the older format gives the same weights', async () => {
    const i32 = (n: number) => Buffer.from(Int32Array.of(n).buffer);
    const entries = (await inspect(dense)).tensors.filter(({ shape }) => shape.length === 2).map(({ name, shape: [columns = 1] }) => {
      const values = Float32Array.from({ length: columns }, (_, i) => importance(i) * 8);
      return Buffer.concat([i32(name.length), Buffer.from(name), i32(8), i32(columns), Buffer.from(values.buffer)]);
    });
    writeFileSync(file('old.dat'), Buffer.concat([i32(entries.length), ...entries, i32(3), i32(13), Buffer.from('some text.txt')]));
    await quantize(dense, file('new'), 'Q4_0', { imatrix });
    await quantize(dense, file('old'), 'Q4_0', { imatrix: file('old.dat') });
    await quantize(dense, file('none'), 'Q4_0');
    const weights = async (path: string) => readFileSync(path).subarray((await inspect(path)).dataOffset);
    expect((await weights(file('old'))).equals(await weights(file('new')))).toBe(true);
    expect((await weights(file('none'))).equals(await weights(file('new')))).toBe(false);
    const { metadata } = await inspect(file('old'));
    expect(Object.fromEntries(metadata.filter(({ key }) => key.startsWith('quantize.imatrix.')).map(({ key, value }) => [key.slice(17), value]))).toEqual({
      file: 'old.dat', dataset: 'some text.txt', entries_count: entries.length, chunks_count: 3,
    });
  });

  test('that is missing, no such thing, damaged, or of another model is an error', async () => {
    const failing = async (type: QuantizeType, options: QuantizeOptions, code: string, message: RegExp) => {
      await expect(quantize(dense, file('out'), type, options)).rejects.toMatchObject({ code, message: expect.stringMatching(message) as string });
      expect(leftOvers()).toEqual([]);
    };
    await failing('IQ2_XXS', {}, 'ERR_INVALID_ARG', /in iq2_xxs needs an importance matrix; give one/);
    await failing('Q8_0', { embedding: 'iq2_xs' }, 'ERR_INVALID_ARG', /token_embd\.weight in iq2_xs needs an importance matrix/);
    await failing('Q4_K_M', { imatrix: file('nowhere') }, 'ERR_MODEL_NOT_FOUND', /nowhere/);
    for (const other of ['package.json', ternary, 'LICENSE', dense]) await failing('Q4_K_M', { imatrix: other }, 'ERR_MODEL_INVALID', /no importance matrix in it/);
    // Bytes that upstream's reader takes for lengths.
    for (const bytes of [[1, -1], [1, -(2 ** 31)], [2 ** 31 - 1, 4], [1, 4, 0, 1, 2 ** 30], []]) {
      writeFileSync(file('bad'), Buffer.from(Int32Array.from(bytes).buffer));
      await failing('Q4_K_M', { imatrix: file('bad') }, 'ERR_MODEL_INVALID', /no importance matrix in it/);
    }
    const whole = readFileSync(imatrix);
    for (const length of [4, 20, 100, 1000, whole.length - 4000]) {
      writeFileSync(file('bad'), whole.subarray(0, length));
      await failing('Q4_K_M', { imatrix: file('bad') }, 'ERR_MODEL_INVALID', /no importance matrix in it/);
    }
    // Four bytes each, which padding makes 4 TiB of.
    const many = Array.from({ length: 4096 }, (_, i) => ({ name: `${i}.counts`, shape: [1], type: 0, bytes: 4 }));
    writeGguf(file('bad'), { 'general.alignment': 2 ** 30 }, many, { holes: true });
    await failing('Q4_K_M', { imatrix: file('bad') }, 'ERR_MODEL_INVALID', /no importance matrix in it/);
    const one = (name: string, values: readonly number[]) => {
      const data = Buffer.from(Float32Array.from(values).buffer);
      writeGguf(file('bad'), {}, [
        { name: `${name}.in_sum2`, shape: [values.length], type: 0, bytes: data.length, data },
        { name: `${name}.counts`, shape: [1], type: 0, bytes: 4, data: Buffer.from(Float32Array.of(1).buffer) },
      ]);
    };
    const even = new Array<number>(256).fill(1);
    one('blk.0.attn_q.weight', [...even.slice(1), NaN]);
    await failing('Q4_K_M', { imatrix: file('bad') }, 'ERR_MODEL_INVALID', /blk\.0\.attn_q\.weight has values that are negative or not finite/);
    one('blk.0.attn_q.weight', [...even, 1]);
    await failing('Q4_K_M', { imatrix: file('bad') }, 'ERR_INVALID_ARG', /has 257 values for blk\.0\.attn_q\.weight, which has 256 columns/);
    one('blk.7.attn_q.weight', even);
    await failing('Q4_K_M', { imatrix: file('bad') }, 'ERR_INVALID_ARG', /has no values for any tensor/);
    one('blk.0.attn_q.weight', even);
    await failing('IQ2_XXS', { imatrix: file('bad') }, 'ERR_INVALID_ARG', /bad has none for it/);
  });
});

describe('bad input', () => {
  test('names what is wrong', async () => {
    await expect(quantize(dense, file('out'), 'Q4_K_N' as never)).rejects.toThrow(/no type 'Q4_K_N'; did you mean 'Q4_K_[SM]'\? there are F32, F16.*STQ1_0/);
    await expect(quantize(dense, file('out'), 'Q8_0', { embeding: 'q8_0' } as never)).rejects.toThrow(/has no "embeding"; did you mean "embedding"/);
    await expect(quantize(dense, file('out'), 'Q8_0', { embedding: 'q9' as never })).rejects.toThrow(/options\.embedding must be one of 'f32'/);
    await expect(quantize(dense, file('out'), 'Q8_0', { threads: 0 })).rejects.toThrow(/from 1 to 512; found 0/);
    await expect(quantize(dense, file('out'), 'COPY', { head: 'q8_0' })).rejects.toThrow(/COPY changes no type/);
    await expect(quantize(sherry, file('out'), 'Q8_0', { head: 'q8_0', embedding: 'q6_K' })).rejects.toThrow(/one thing/);
    expect(leftOvers()).toEqual([]);
  });
});

describe('ternion quantize', () => {
  const run = (...args: string[]) => spawnSync(process.execPath, ['dist/cli/main.js', 'quantize', ...args], { encoding: 'utf8' });

  test('says what each tensor lost', () => {
    const { status, stdout, stderr } = run(sherry, file('cli.gguf'), 'stq1_0', '--head', 'Q6_k');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^token_embd\.weight +f16 → q6_K {2}relative error \d/m);
    expect(stdout).toMatch(/^blk\.0\.attn_q\.weight +f16 → stq1_0 {2}lossless$/m);
    expect(stdout).toMatch(/cli\.gguf: STQ1_0, [\d.]+ MiB \(was 9\.7 MiB\), relative error/);
    const json = JSON.parse(run(sherry, file('cli.gguf'), 'F32', '--json').stdout) as object;
    expect(json).toMatchObject({ file: file('cli.gguf'), type: 'F32', inputBytes: statSync(sherry).size, bytes: statSync(file('cli.gguf')).size, relativeError: 0, lossless: true });
  });

  test('wrong usage is 2, a refusal 1, each in one line', () => {
    for (const [args, expected] of [[[dense], 2], [[dense, file('out'), 'Q9'], 2], [[dense, file('out'), 'Q8_0', '--head', 'q9'], 2], [[dense, dense, 'Q8_0'], 2], [[dense, file('out'), 'TQ2_0'], 1], [['none', file('out'), 'Q8_0'], 1]] as const) {
      const { status, stderr, stdout } = run(...args);
      expect(status, args.join(' ')).toBe(expected);
      expect(stderr.trim().split('\n')).toHaveLength(1);
      expect(stdout).toBe('');
    }
    expect(run(dense, file('forced'), 'TQ2_0', '--force').status).toBe(0);
    expect(leftOvers()).toEqual([]);
  });

  test('an interrupt exits with 130 and leaves nothing', async () => {
    await synthesize(file('big.gguf'), 'M', { layers: 4, types: { matrices: 'f16', embedding: 'f16' } });
    const child = spawn(process.execPath, ['dist/cli/main.js', 'quantize', file('big.gguf'), file('out'), 'Q4_K_M', '--threads', '1']);
    const ended = new Promise((done) => child.on('close', done));
    const started = Date.now();
    while (leftOvers().length === 0 && child.exitCode === null && Date.now() - started < 10_000) await new Promise((later) => setTimeout(later, 10));
    child.kill('SIGINT');
    expect(await ended).toBe(130);
    expect(leftOvers()).toEqual([]);
  });
});
