// Model files from strangers: each is refused with a code, its name, what was found and what was expected. Nothing ends the process, hangs, or
// takes memory that a file merely speaks of.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { inspect, presets, quantize, synthesize } from '../../dist/gguf/index.js';
import type { PresetName } from '../../dist/gguf/index.js';
import { isTernionError, loadModel, plan } from '../../dist/index.js';
import type { TernionError } from '../../dist/index.js';
import { headerOf, putTogether, takeApart, value, withMetadata } from './edit-gguf.js';
import type { Parts } from './edit-gguf.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-hostile-'));
afterAll(() => rmSync(folder, { recursive: true }));
const bad = join(folder, 'bad.gguf');
const small = 'models/tern-5m-tq2_0.gguf';
const mixture = 'models/tern-moe-6m-tq2_0.gguf';
const hybrid = 'models/tern-hybrid-random.gguf';

type Outcome = TernionError | 'works';
async function outcome(work: () => Promise<unknown>): Promise<Outcome> {
  try {
    await work();
    return 'works';
  } catch (error) {
    if (!isTernionError(error)) throw error;
    return error;
  }
}

async function load(path: string, mmap = true): Promise<void> {
  const model = await loadModel(path, { devices: ['cpu'], context: 128, mmap });
  try {
    await (await model.session()).complete('Once', { temperature: 0, maxTokens: 2, ignoreEos: true });
  } finally {
    await model.dispose();
  }
}

/** Loading and planning fail alike. */
async function expectRefused(path: string, code: string, message: RegExp): Promise<void> {
  for (const work of [() => load(path), () => plan(path, { devices: ['cpu'], context: 128 })]) {
    const error = await outcome(work);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) as string });
    if (error !== 'works') expect(error.message).toContain(path);
  }
}

function write(change: (parts: Parts) => Parts, of = small): void {
  putTogether(bad, change(takeApart(of)));
}

describe('what is no model file', () => {
  const mebibyte = Buffer.from(Uint8Array.from({ length: 1 << 20 }, (_, i) => (i * 2_654_435_761) >>> 24));
  test.each<[string, () => string, RegExp]>([
    ['a directory', () => folder, /is a directory, expected a GGUF file/],
    ['a device', () => '/dev/zero', /a pipe or a device, expected a GGUF file/],
    ['an empty file', () => (writeFileSync(bad, ''), bad), /is empty, expected a GGUF file/],
    ['random bytes', () => (writeFileSync(bad, mebibyte), bad), /magic/],
    ['another magic', () => (writeFileSync(bad, Buffer.concat([Buffer.from('GGML'), readFileSync(small).subarray(4)])), bad), /magic "GGUF"/],
    ['random bytes behind the magic', () => (writeFileSync(bad, Buffer.concat([Buffer.from('GGUF'), mebibyte])), bad), /version|counts/],
    ['another version', () => (writeFileSync(bad, Buffer.concat([Buffer.from('GGUF\x63\0\0\0'), readFileSync(small).subarray(8)])), bad), /version 99, expected 2 or 3/],
  ])('%s', async (_, make, message) => {
    const path = make();
    await expectRefused(path, 'ERR_MODEL_INVALID', message);
    await expect(inspect(path)).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
  });

  test('a pipe: nobody waits for its other end', async () => {
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    await expectRefused(pipe, 'ERR_MODEL_INVALID', /pipe/);
    await expect(inspect(pipe)).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
  });

  test('no file', async () => {
    await expectRefused(join(folder, 'none.gguf'), 'ERR_MODEL_NOT_FOUND', /no such file/i);
  });

  test('GGUF files that are no models', async () => {
    write((parts) => withMetadata(parts, { 'general.architecture': null, 'general.type': value.text('imatrix') }));
    await expectRefused(bad, 'ERR_MODEL_INVALID', /general\.architecture is missing \(general\.type is imatrix\).*give a model's file/);
    write((parts) => withMetadata(parts, { 'general.type': value.text('adapter') }));
    await expectRefused(bad, 'ERR_MODEL_INVALID', /general\.type is adapter; expected model/);
    write((parts) => ({ ...parts, rows: [], data: Buffer.alloc(0) }));
    await expectRefused(bad, 'ERR_MODEL_INVALID', /has no tensors, only a vocabulary; expected a model with its weights/);
    write((parts) => withMetadata(parts, { 'general.architecture': value.text('clip') }));
    await expectRefused(bad, 'ERR_MODEL_UNSUPPORTED', /CLIP cannot be used as main model/);
    write((parts) => withMetadata(parts, { 'general.architecture': value.text('nobody') }));
    await expectRefused(bad, 'ERR_MODEL_UNSUPPORTED', /unknown model architecture: 'nobody'/);
  });
});

test('a file that is cut anywhere', { timeout: 120_000 }, async () => {
  const parts = takeApart(small);
  const whole = readFileSync(small);
  const dataAt = headerOf(parts).length;
  const boundaries = [4, 8, 16, 24, ...parts.rows.map(({ offset }) => dataAt + Number(offset)), whole.length - 1];
  let at = 24;
  for (const { key, bytes } of parts.entries) boundaries.push((at += 8 + Buffer.byteLength(key) + bytes.length));
  let state = 7;
  for (let i = 0; i < 200; i++) boundaries.push((state = (state * 48_271) % 2_147_483_647) % (i % 2 === 0 ? dataAt : whole.length));
  for (const length of boundaries) {
    writeFileSync(bad, whole.subarray(0, length));
    expect(await outcome(() => load(bad, length % 2 === 0)), `${length} bytes`).toMatchObject({ code: 'ERR_MODEL_INVALID', message: expect.stringContaining(bad) as string });
  }
});

describe('tensors', () => {
  const change = (edit: (parts: Parts) => void) => write((parts) => (edit(parts), parts));
  test.each<[string, (parts: Parts) => void, RegExp]>([
    ['behind the end', ({ rows }) => (rows.at(-1)!.offset = 1n << 40n), /begins behind the file's end/],
    ['over another', ({ rows }) => (rows[2]!.offset = rows[1]!.offset), /begin at the same byte/],
    ['at an odd byte', ({ rows }) => (rows[1]!.offset += 1n), /expected a multiple of 32/],
    ['of no weights', ({ rows }) => (rows[0]!.shape[0] = 0n), /impossible dimensions/],
    ['of more weights than can be', ({ rows }) => (rows[0]!.shape = [1n << 62n, 4n, 4n, 4n]), /impossible dimensions/],
    ['of negative length', ({ rows }) => (rows[0]!.shape[0] = (1n << 64n) - 256n), /impossible dimensions/],
    ['of five dimensions', ({ rows }) => (rows[0]!.shape = [2n, 2n, 2n, 2n, 2n]), /5 dimensions/],
    ['of an unknown type', ({ rows }) => (rows[0]!.type = 9999), /type/],
    ['twice', ({ rows }) => (rows[1]!.name = rows[0]!.name), /duplicate/],
    ['of another shape', ({ rows }) => rows[0]!.shape.reverse(), /offset|shape|multiple/],
    ['that are missing', ({ rows }) => (rows[0]!.name = 'nobody.weight'), /missing tensor|not found/],
  ])('%s', async (_, edit, message) => {
    change(edit);
    await expectRefused(bad, 'ERR_MODEL_INVALID', message);
  });

  test.each([{ tensors: 1n << 62n }, { entries: 1n << 62n }, { tensors: 1n << 20n }, { entries: (1n << 64n) - 1n }])('counts of more than there are: %o', async (counts) => {
    putTogether(bad, takeApart(small), counts);
    const before = process.memoryUsage().rss;
    await expectRefused(bad, 'ERR_MODEL_INVALID', /expected at most 65536 and 16384/);
    await expect(inspect(bad)).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
    expect(process.memoryUsage().rss - before).toBeLessThan(200 << 20);
  });
});

describe('metadata', () => {
  const { u16, u32, i32, f32, bool, text, texts, u32s, i32s, claimed } = value;
  const tokens = Array.from({ length: 3072 }, (_, i) => `t${i}`);
  test.each<[string, Buffer | null, RegExp, string?]>([
    // What llama.cpp asserts, or divides by.
    ['llama.block_count', u32(0), /is 0; expected 1 to 512/],
    ['llama.block_count', u32(100_000), /is 100000; expected 1 to 512/],
    ['llama.block_count', i32(-1), /wrong type i32 but expected type u32/],
    ['llama.block_count', text('three'), /wrong type str/],
    ['llama.block_count', null, /key not found/],
    ['llama.nextn_predict_layers', u32(99), /is 99; expected 0 to/],
    ['llama.embedding_length', u32(0), /is 0; expected 1 to/],
    ['llama.embedding_length', u32(255), /wrong shape|not divisible|invalid n_rot/],
    ['llama.context_length', u32(2 ** 32 - 1), /is 4294967295; expected 0 to 2147483647/],
    ['llama.attention.head_count', u32(0), /is 0; expected 1 or more/],
    ['llama.attention.head_count', null, /is missing; expected 1 or more/],
    ['llama.attention.head_count', u32(7), /expected a divisor of attention\.head_count, 7/],
    ['llama.attention.head_count_kv', u32(3), /is 3.*expected a divisor of attention\.head_count/],
    ['llama.attention.head_count', u32s([4, 4]), /wrong array length/],
    ['llama.attention.layer_norm_rms_epsilon', f32(-1), /is -1\.0+; expected 0 or a small positive number/],
    ['llama.attention.layer_norm_rms_epsilon', f32(NaN), /is nan; expected/i],
    ['llama.rope.scaling.type', text('twisted'), /is 'twisted'; expected none, linear, yarn or longrope/],
    ['llama.rope.dimension_count', u32(7), /invalid n_rot/],
    ['llama.pooling_type', u32(77), /is 77; expected 0 to 4/],
    ['llama.expert_count', u32(5000), /is 5000; expected 0 to 1024/],
    ['llama.expert_count', u32(4), /expert_used_count is missing; expected 1 to 4/],
    ['llama.expert_used_count', u32(2), /is 2; expected 0, since expert_count is 0/],
    ['split.count', u32(2), /split\.count is of type u32; expected type u16/],
    ['split.no', u32(2), /split\.no is of type u32; expected type u16/],
    ['split.count', u16(3), /first of 3 parts.*its name does not end/],
    ['tokenizer.ggml.model', null, /key not found/],
    ['tokenizer.ggml.model', text('martian'), /unknown tokenizer/],
    ['tokenizer.ggml.pre', text('martian'), /unknown pre-tokenizer/, 'ERR_MODEL_UNSUPPORTED'],
    ['tokenizer.ggml.tokens', null, /cannot find tokenizer vocab/],
    ['tokenizer.ggml.tokens', texts([]), /a list of 0 texts; expected 1 to/],
    ['tokenizer.ggml.tokens', texts(tokens.slice(1)), /wrong shape/],
    ['tokenizer.ggml.tokens', texts([...tokens.slice(1), 't7']), /same text twice, for the tokens 6 and 3071/],
    ['tokenizer.ggml.tokens', claimed(1n << 60n), /ends within its header/],
    ['tokenizer.ggml.tokens', claimed(1n << 40n), /ends within its header/],
    ['tokenizer.ggml.tokens', i32s([1, 2, 3]), /invalid gguf type/],
    ['tokenizer.ggml.merges', null, /cannot find tokenizer merges/],
    ['tokenizer.ggml.token_type', i32s([1]), /out of array bounds for toktypes/],
    ['tokenizer.ggml.bos_token_id', text('one'), /wrong type str/],
    ['general.alignment', u32(3), /alignment|multiple of 3|power of 2/],
  ])('%s', async (key, bytes, message, code = 'ERR_MODEL_INVALID') => {
    write((parts) => withMetadata(parts, { [key]: bytes }));
    await expectRefused(bad, code, message);
  });

  test.each<[string, Buffer, RegExp, string]>([
    ['expert_used_count', u32(1000), /is 1000; expected 1 to/, mixture],
    ['expert_used_count', u32(0), /is 0; expected 1 to/, mixture],
    ['expert_group_count', u32(1000), /is 1000; expected less than expert_count/, mixture],
    ['expert_group_count', u32(3), /is 3; expected a divisor of expert_count/, mixture],
    ['full_attention_interval', u32(0), /is 0; expected 1 to/, hybrid],
    ['ssm.time_step_rank', u32(0), /is 0; expected 1 to/, hybrid],
    ['ssm.group_count', u32(0), /is 0; expected 1 or more/, hybrid],
    ['rope.dimension_sections', i32s([0, 0, 0, 0]), /RoPE's sections are 0, 0, 0, 0/, hybrid],
    ['rope.dimension_sections', i32s([-5, 20, 10, 0]), /RoPE's sections are -5, 20, 10, 0/, hybrid],
    ['rope.dimension_count', u32(4096), /RoPE turns 4096 values of heads of/, hybrid],
    ['rope.dimension_count', u32(33), /RoPE turns 33 values/, hybrid],
    ['rope.dimension_count', u32(0), /RoPE turns 0 values/, hybrid],
  ])('%s of other architectures', async (key, bytes, message, of) => {
    const parts = takeApart(of);
    const architecture = parts.entries.find((entry) => entry.key === 'general.architecture')!.bytes.subarray(12).toString();
    putTogether(bad, withMetadata(parts, { [`${architecture}.${key}`]: bytes }));
    await expectRefused(bad, 'ERR_MODEL_INVALID', message);
  });

  test('what a tokenizer adds is there', async () => {
    write((parts) => withMetadata(parts, { 'tokenizer.ggml.add_bos_token': bool(true), 'tokenizer.ggml.bos_token_id': null, 'tokenizer.ggml.pre': text('chatglm-bpe') }));
    await expectRefused(bad, 'ERR_MODEL_INVALID', /a token that it does not have.*tokenizer\.ggml\.bos_token_id/);
  });

  test('a text of 64 MiB is read, and no more than that is taken', async () => {
    write((parts) => withMetadata(parts, { 'general.description': text('x'.repeat(64 << 20)) }));
    const before = process.memoryUsage().rss;
    expect(await outcome(() => load(bad))).toBe('works');
    expect(process.memoryUsage().rss - before).toBeLessThan(1 << 30);
  });
});

describe('models of several files', () => {
  const part = (i: number) => join(folder, `parts-0000${i}-of-00002.gguf`);
  const split = (no: number, of = 2, tensors = 0) => ({ 'split.no': value.u16(no), 'split.count': value.u16(of), 'split.tensors.count': value.i32(tensors) });
  const writeParts = (share = 0.5) => {
    const { entries, rows, data } = takeApart(small);
    const half = Math.floor(rows.length * share);
    const cut = rows[half]!.offset;
    putTogether(part(1), withMetadata({ entries, rows: rows.slice(0, half), data: data.subarray(0, Number(cut)) }, split(0, 2, rows.length)));
    const rest = rows.slice(half).map((row) => ({ ...row, offset: row.offset - cut }));
    putTogether(part(2), withMetadata({ entries: [], rows: rest, data: data.subarray(Number(cut)) }, split(1, 2, rows.length)));
    return { rest, data: data.subarray(Number(cut)) };
  };

  test('load when the first has the metadata alone', async () => {
    writeParts(0);
    expect(await outcome(() => load(part(1)))).toBe('works');
  });

  test('load when they are whole, and say which part is wrong', async () => {
    const { rest, data } = writeParts();
    expect(await outcome(() => load(part(1)))).toBe('works');
    await expectRefused(part(2), 'ERR_MODEL_INVALID', /is part 2 of 2 of a model; give the first part \(…-00001-of-00002\.gguf\)/);
    const second = (changes: Record<string, Buffer | null>) => putTogether(part(2), withMetadata({ entries: [], rows: rest, data }, { ...split(1), ...changes }));
    second({ 'split.no': value.u32(1) });
    expect(await outcome(() => load(part(1)))).toMatchObject({ code: 'ERR_MODEL_INVALID', message: expect.stringMatching(/00002-of-00002\.gguf: metadata split\.no is of type u32/) as string });
    second({ 'split.no': value.u16(0) });
    expect(await outcome(() => load(part(1)))).toMatchObject({ code: 'ERR_MODEL_INVALID', message: expect.stringMatching(/is part 1 of a model; expected part 2 of 2/) as string });
    second({ 'split.no': null });
    expect(await outcome(() => load(part(1)))).toMatchObject({ code: 'ERR_MODEL_INVALID', message: expect.stringMatching(/is no part of a model; expected part 2 of 2/) as string });
    second({ 'split.count': value.u16(5) });
    expect(await outcome(() => load(part(1)))).toMatchObject({ code: 'ERR_MODEL_INVALID', message: expect.stringMatching(/one of 5 parts.*expected one of the 2/) as string });
    copyFileSync(mixture, part(2));
    expect(await outcome(() => load(part(1)))).toMatchObject({ code: 'ERR_MODEL_INVALID', message: expect.stringMatching(/is no part of a model/) as string });
    writeFileSync(part(2), readFileSync(small).subarray(0, 5000));
    expect(await outcome(() => load(part(1)))).toMatchObject({ code: 'ERR_MODEL_INVALID', message: expect.stringContaining(part(2)) as string });
    rmSync(part(2));
    expect(await outcome(() => load(part(1)))).toMatchObject({ code: 'ERR_MODEL_NOT_FOUND', message: expect.stringMatching(/is part 2 of 2 of the model .*put it beside the first part/) as string });
    mkdirSync(part(2));
    expect(await outcome(() => load(part(1)))).toMatchObject({ code: 'ERR_MODEL_INVALID', message: expect.stringMatching(/is a directory/) as string });
    rmSync(part(2), { recursive: true });
  });
});

describe('weights', () => {
  test('that are no numbers end a generation with the reason', async () => {
    const parts = takeApart('models/tern-5m-f16.gguf');
    putTogether(bad, { ...parts, data: Buffer.alloc(parts.data.length, 255) });
    expect(await outcome(() => load(bad))).toMatchObject({ code: 'ERR_MODEL_INVALID', message: expect.stringMatching(/logits are not numbers.*verify\(\)/) as string });
  });
  test('of a hostile file are not quantised', async () => {
    write((parts) => withMetadata(parts, { 'llama.block_count': value.u32(0) }));
    await expect(quantize(bad, join(folder, 'out.gguf'), 'Q8_0')).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID', message: expect.stringMatching(/is 0; expected 1 to 512/) as string });
  });
});

describe('a file that is cut short while it is loaded', () => {
  const child = new URL('cut-child.mjs', import.meta.url).pathname;
  test('is nothing to a model that was read (mmap: false)', () => {
    copyFileSync('models/tern-5m-f16.gguf', bad);
    const said = execFileSync(process.execPath, [child, bad], { encoding: 'utf8' });
    expect(JSON.parse(said)).toEqual({ same: true, tokens: 8 });
  });
  test('is refused when it is loaded again', async () => {
    copyFileSync(small, bad);
    const model = await loadModel(bad, { devices: ['cpu'], context: 128, mmap: false });
    await model.unload();
    truncateSync(bad, 100_000);
    const session = await model.session();
    expect(await outcome(async () => session.complete('Once', { maxTokens: 1 }))).toMatchObject({ code: 'ERR_STATE_MISMATCH' }); // another model than it was
    await model.dispose();
  });
});

// What is checked refuses nothing that loads.
test.each(Object.keys(presets) as PresetName[])('the header of %s is planned', { timeout: 60_000 }, async (name) => {
  const path = join(folder, 'header.gguf');
  await synthesize(path, name, { headerOnly: true, layers: 4 });
  const { fits, shortages } = await plan(path, { devices: ['cpu'], context: 256 });
  expect(fits || shortages.length > 0).toBe(true);
  rmSync(path);
});
