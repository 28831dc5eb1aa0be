import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { inspect, presets, synthesize, verify } from '../../dist/gguf/index.js';
import { isTernionError, loadModel } from '../../dist/index.js';
import { shapes, small } from './shapes.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-synth-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string) => join(folder, name);
const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
const code = async (work: () => Promise<unknown>) =>
  Promise.resolve().then(work).then(
    () => 'no error',
    (error: unknown) => (isTernionError(error) ? error.code : String(error)),
  );

describe('synthesize', () => {
  test.each(Object.keys(shapes) as (keyof typeof shapes)[])('%s loads and decodes', async (architecture) => {
    const path = file(`${architecture}.gguf`);
    const bytes = await synthesize(path, shapes[architecture], { types: { matrices: 'q8_0', embedding: 'q8_0' } });
    expect(statSync(path).size).toBe(bytes);
    const model = await loadModel(path, { devices: ['cpu'], context: 128 });
    expect(model.info).toMatchObject({ architecture, layers: 4, embeddingSize: 256, vocabulary: 4096 });
    const session = await model.session();
    const { usage, logprobs } = await session.complete('Once upon a time', { temperature: 0, ignoreEos: true, maxTokens: 8, logprobs: 1 });
    expect(usage.generated).toBe(8);
    for (const { logprob } of logprobs) expect(Number.isFinite(logprob)).toBe(true);
    await model.dispose();
  });

  test('llama-embed makes vectors, and refuses to generate', async () => {
    const path = file('llama-embed.gguf');
    await synthesize(path, { ...small, architecture: 'llama-embed', pooling: 'mean' }, { types: { matrices: 'q8_0', embedding: 'q8_0' } });
    const model = await loadModel(path, { devices: ['cpu'], context: 128 });
    expect(model.info).toMatchObject({ architecture: 'llama-embed', pooling: 'mean' });
    // Both directions: a word's place matters to the words before it, too.
    const [a, b] = await model.embed(['one two three', 'one three two']);
    expect(a).toHaveLength(256);
    expect(a).not.toEqual(b);
    const session = await model.session();
    expect(() => session.complete('one', { maxTokens: 4 })).toThrow(expect.objectContaining({ code: 'ERR_MODEL_UNSUPPORTED' }));
    await model.dispose();
  });

  test('the same seed gives the same bytes, here and everywhere', async () => {
    const tokenizer = 'vendor/llama/models/ggml-vocab-llama-spm.gguf';
    await synthesize(file('a'), 'S', { layers: 1, seed: 7, tokenizer });
    expect(sha256(file('a'))).toBe('f2b8d40779fbfdeae35aa2197f2108b9e22e702caf304ff003a3ceb0e5e15736');
    await synthesize(file('b'), 'S', { layers: 1, seed: 8, tokenizer });
    expect(sha256(file('b'))).not.toBe(sha256(file('a')));
  });

  test.each(Object.keys(presets) as (keyof typeof presets)[])('%s: a header of its true size, at once and without weights', async (name) => {
    const path = file('header');
    const bytes = await synthesize(path, name, { headerOnly: true });
    const found = await inspect(path);
    expect(found.fileBytes).toBe(bytes);
    expect(statSync(path).blocks * 512).toBeLessThan(40_000_000);
    const weights = found.tensors.reduce((sum, tensor) => sum + tensor.shape.reduce((a, b) => a * b, 1), 0);
    const size = name === 'Falcon-E-1B' ? 1.72 : /(\d+(?:\.\d+)?)B(?:-|$)/.exec(name)?.[1]; // that one is larger than it says
    if (size !== undefined) expect(weights / 1e9 / Number(size)).toBeGreaterThan(0.85);
    if (size !== undefined) expect(weights / 1e9 / Number(size)).toBeLessThan(1.35);
  });

  test('Falcon-E-1B has the weights of the file that is published', async () => {
    await synthesize(file('falcon'), 'Falcon-E-1B', { headerOnly: true, types: { embedding: 'f16' } });
    const { tensors } = await inspect(file('falcon'));
    // In its types: I2_S takes a quarter of a byte for a weight, and 32 bytes for the scale.
    const bytes = tensors.reduce((sum, { type, shape, bytes: own }) => sum + (type === 'tq2_0' ? shape.reduce((a, b) => a * b, 1) / 4 + 32 : own), 0);
    expect(tensors.filter(({ type }) => type === 'tq2_0')).toHaveLength(168);
    expect(tensors.filter(({ type }) => type === 'f32')).toHaveLength(49);
    const header = 666_324_256 - bytes; // the published file's size: what is left are its 32,768 tokens and their merges
    expect(header).toBeGreaterThan(0.5e6);
    expect(header).toBeLessThan(2e6);
  });

  test('types can be chosen, depth cut', async () => {
    await synthesize(file('types'), 'S', { layers: 2, types: { matrices: 'q4_K', head: 'f16' } });
    const { tensors } = await inspect(file('types'));
    expect(tensors.find(({ name }) => name === 'blk.1.ffn_down.weight')?.type).toBe('q4_K');
    expect(tensors.find(({ name }) => name === 'output.weight')?.type).toBe('f16');
    expect(tensors.some(({ name }) => name.startsWith('blk.2.'))).toBe(false);
  });
});

describe('bad input', () => {
  test('names what is wrong', async () => {
    await expect(synthesize(file('x'), 'Qwen3-30B-A3' as never)).rejects.toThrow(/did you mean 'Qwen3-30B-A3B'/);
    await expect(synthesize(file('x'), 'S', { layers: 0 })).rejects.toThrow(/1 to 10000; found 0/);
    await expect(synthesize(file('x'), 'S', { types: { matrices: 'q9' as never } })).rejects.toThrow(/one of 'f32'/);
    await expect(synthesize(file('x'), shapes.llama)).rejects.toThrow(/must name at least/);
    await expect(synthesize(file('x'), { ...shapes.llama, width: 200 }, { types: { matrices: 'tq2_0', embedding: 'f16' } })).rejects.toThrow(/multiples of 256; found 200/);
    await expect(synthesize(file('x'), { ...shapes.llama, heads: 0 }, { types: { matrices: 'f16', embedding: 'f16' } })).rejects.toThrow(/at least 1; found 0/);
    await expect(synthesize(file('x'), { ...shapes.llama, vocabulary: 100 }, { types: { matrices: 'f16', embedding: 'f16' } })).rejects.toThrow(/more than the shape's vocabulary of 100/);
    expect(await code(() => synthesize(file('x'), 'S', { tokenizer: 'package.json' }))).toBe('ERR_MODEL_INVALID');
    expect(await code(() => synthesize(file('x'), 'S', { tokenizer: file('none') }))).toBe('ERR_MODEL_NOT_FOUND');
    expect(existsSync(file('x'))).toBe(false);
  });

  test.each<[string, () => Promise<unknown>, RegExp]>([
    ['a path that is none', () => synthesize(5 as never, 'S'), /path must be a string; found 5/],
    ['a shape that is none', () => synthesize(file('x'), 7 as never), /shape must be .*found 7/],
    ['sizes as text', () => synthesize(file('x'), { ...shapes.llama, heads: '8' } as never), /shape\.heads must be an integer of at least 0; found the string "8"/],
    ['no layers', () => synthesize(file('x'), { ...shapes.llama, layers: 0 }), /shape\.layers must be an integer from 1 to 10000; found 0/],
    ['more layers than memory could hold', () => synthesize(file('x'), { ...shapes.llama, layers: 2e9 }), /shape\.layers must be .*found 2000000000/],
    ['a size that is not whole', () => synthesize(file('x'), { ...shapes.llama, width: 256.5 }), /shape\.width/],
    ['an architecture that cannot be made', () => synthesize(file('x'), { ...shapes.llama, architecture: 'lama' } as never), /shape\.architecture must be one of 'llama'/],
    ['an unknown key', () => synthesize(file('x'), 'S', { layer: 2 } as never), /has no "layer"; did you mean "layers"/],
    ['an unknown key of the types', () => synthesize(file('x'), 'S', { types: { matrice: 'f16' } as never }), /options\.types has no "matrice"; did you mean "matrices"/],
    ['options that are none', () => synthesize(file('x'), 'S', null as never), /options must be an object of options; found null/],
    ['headerOnly as text', () => synthesize(file('x'), 'S', { headerOnly: 'yes' as never }), /options\.headerOnly must be true or false/],
    ['a signal that is none', () => synthesize(file('x'), 'S', { signal: {} as never }), /options\.signal must be an AbortSignal/],
    ['progress that is none', () => synthesize(file('x'), 'S', { onProgress: 5 as never }), /options\.onProgress must be a function/],
    ['a signal that is none, to verify', () => verify('models/tern-5m-tq2_0.gguf', { signal: {} as never }), /options\.signal must be an AbortSignal/],
    ['an unknown key, to verify', () => verify('models/tern-5m-tq2_0.gguf', { progress: () => undefined } as never), /has no "progress"; did you mean "onProgress"/],
  ])('%s is refused', async (_, work, message) => {
    await expect(work()).rejects.toMatchObject({ code: 'ERR_INVALID_ARG', message: expect.stringMatching(message) as string });
    expect(existsSync(file('x'))).toBe(false);
  });

  test('no folder, no permission, an abort: an error and no half file', async () => {
    expect(await code(() => synthesize(join(folder, 'no', 'such', 'x'), 'S'))).toBe('ERR_IO');
    expect(await code(() => synthesize('/proc/x.gguf', 'S'))).toBe('ERR_IO');
    const abort = new AbortController();
    expect(await code(() => synthesize(file('cut'), 'M', { signal: abort.signal, onProgress: () => abort.abort() }))).toBe('ERR_ABORTED');
    expect(await code(() => synthesize(file('cut'), 'S', { signal: AbortSignal.abort() }))).toBe('ERR_ABORTED');
    expect(readdirSync(folder).filter((name) => name.startsWith('cut'))).toEqual([]);
  });

  test.skipIf(process.getuid?.() !== 0)('a full disk [needs hardware: root, to mount one]', async () => {
    const disk = mkdtempSync(join(tmpdir(), 'ternion-disk-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', disk]);
    try {
      await expect(synthesize(join(disk, 'x.gguf'), 'S')).rejects.toMatchObject({ code: 'ERR_IO', message: expect.stringMatching(/No space left/) as string });
      expect(readdirSync(disk)).toEqual([]);
    } finally {
      execFileSync('umount', [disk]);
      rmSync(disk, { recursive: true });
    }
  });

  test('an interrupted command exits with 130 and leaves nothing', async () => {
    const child = spawn(process.execPath, ['dist/cli/main.js', 'synth', 'Qwen3-14B', file('big.gguf')]);
    const started = Date.now();
    while (!readdirSync(folder).some((name) => /^big\.gguf\.[0-9a-f]{16}\.partial$/.test(name)) && Date.now() - started < 10_000) await new Promise((resolve) => setTimeout(resolve, 10));
    child.kill('SIGINT');
    expect(await new Promise((resolve) => child.on('close', resolve))).toBe(130);
    expect(readdirSync(folder).filter((name) => name.startsWith('big'))).toEqual([]);
  });
});
