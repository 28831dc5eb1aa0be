// Paths that are not what they seem, and files that others write, too.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { describe as describeFile, importModel, lint, quantize, synthesize, verify } from '../../dist/gguf/index.js';
import { shapes } from '../gguf/shapes.js';
import { Snapshot, clearPacks, findMaxContext, inspect, listPacks, loadModel, plan, verifyPack } from '../../dist/index.js';

const model = 'models/tern-5m-tq2_0.gguf';
const folder = mkdtempSync(join(tmpdir(), 'ternion-paths-'));
const file = (name: string) => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));

describe('a null byte, where C would see the end of the path', () => {
  const cut = `${model}\0.txt`;
  test.each<[string, () => unknown]>([
    ['loadModel', () => loadModel(cut, { devices: ['cpu'] })],
    ['packCache.folder', () => loadModel(model, { devices: ['cpu'], packCache: { folder: `${folder}\0` } })],
    ['cache.diskDir', () => loadModel(model, { devices: ['cpu'], cache: { diskDir: `${folder}\0` } })],
    ['inspect', () => inspect(cut)],
    ['plan', () => plan(cut)],
    ['findMaxContext', () => findMaxContext(cut)],
    ['describe', () => describeFile(cut)],
    ['lint', () => lint(cut)],
    ['verify', () => verify(cut)],
    ['quantize, input', () => quantize(cut, file('out'), 'Q8_0')],
    ['quantize, output', () => quantize(model, file('out\0'), 'Q8_0')],
    ['quantize, imatrix', () => quantize(model, file('out'), 'Q8_0', { imatrix: cut })],
    ['importModel, input', () => importModel(cut, file('out'))],
    ['importModel, output', () => importModel(model, file('out\0'))],
    ['importModel, tokenizer', () => importModel(model, file('out'), { tokenizer: cut })],
    ['synthesize', () => synthesize(file('out\0'), 'S')],
    ['synthesize, tokenizer', () => synthesize(file('out'), 'S', { tokenizer: cut })],
    ['Snapshot.load', () => Snapshot.load(file('none\0'))],
    ['verifyPack', () => verifyPack(cut)],
    ['listPacks', () => listPacks({ folder: `${folder}\0` })],
    ['clearPacks', () => clearPacks({ folder: `${folder}\0` })],
  ])('%s', async (_, work) => {
    await expect(Promise.resolve().then(work)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG', message: expect.stringMatching(/a path without null bytes; found/) as string });
    expect(readdirSync(folder)).toEqual([]);
  });

  test('snapshot.save leaves the file that C would have seen', async () => {
    await using loaded = await loadModel(model, { devices: ['cpu'], context: 128 });
    const session = await loaded.session();
    await session.complete('one', { maxTokens: 1 });
    await using snapshot = await session.snapshot();
    writeFileSync(file('kept'), 'precious');
    await expect(snapshot.save(file('kept\0'))).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
    expect(readFileSync(file('kept'), 'utf8')).toBe('precious');
    expect(readdirSync(folder)).toEqual(['kept']);
  });
});

test.skipIf(process.platform === 'win32').each<[string, (path: string) => Promise<unknown>]>([
  ['loadModel', (path) => loadModel(path, { devices: ['cpu'] })],
  ['loadModel, mmap: false', (path) => loadModel(path, { devices: ['cpu'], mmap: false })],
  ['inspect', (path) => inspect(path)],
  ['verify', (path) => verify(path)],
  ['quantize', (path) => quantize(path, file('out'), 'Q8_0')],
  ['quantize, imatrix', (path) => quantize('models/tern-5m-f16.gguf', file('out'), 'Q8_0', { imatrix: path })],
  ['importModel', (path) => importModel(path, file('out'))],
  ['importModel, tokenizer', async (path) => {
    await synthesize(file('bitnet'), shapes['bitnet-b1.58'], { types: { matrices: 'tq2_0', embedding: 'f16' } });
    return importModel(file('bitnet'), file('out'), { tokenizer: path });
  }],
  ['synthesize, tokenizer', (path) => synthesize(file('out'), 'S', { tokenizer: path })],
  ['Snapshot.load', (path) => Snapshot.load(path)],
  ['verifyPack', (path) => verifyPack(path)],
])('a pipe that nobody writes to: %s says so and does not wait', async (_, work) => {
  execFileSync('mkfifo', ['-m', '600', file('pipe')]);
  try {
    await expect(work(file('pipe'))).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_(IO|MODEL_INVALID|MODEL_NOT_FOUND|STATE_CORRUPT)$/) as string, message: expect.stringContaining(file('pipe')) as string });
  } finally {
    rmSync(file('pipe'));
  }
}, 5000);

describe('several writers of one file', () => {
  test('all succeed, and what is there is whole', async () => {
    const alone = file('alone');
    await synthesize(alone, 'S', { seed: 1 });
    const whole = readFileSync(alone);
    for (let i = 0; i < 5; i++) {
      expect(await Promise.all(Array.from({ length: 4 }, () => synthesize(file('shared'), 'S', { seed: 1 })))).toEqual(new Array(4).fill(whole.length));
      expect(readFileSync(file('shared')).equals(whole)).toBe(true);
    }
    const dense = 'models/tern-5m-f16.gguf';
    const { bytes } = await quantize(dense, alone, 'Q4_0');
    const results = await Promise.all(Array.from({ length: 4 }, () => quantize(dense, file('shared'), 'Q4_0')));
    expect(results.map((each) => each.bytes)).toEqual(new Array(4).fill(bytes));
    expect(readFileSync(file('shared')).equals(readFileSync(alone))).toBe(true);
  });

  test('one that is aborted takes nothing from the other', async () => {
    const dense = file('dense');
    copyFileSync('models/tern-5m-f16.gguf', dense);
    const { bytes } = await quantize(dense, file('alone'), 'Q4_K_M');
    const abort = new AbortController();
    const aborted = quantize(dense, file('shared'), 'Q4_K_M', { signal: abort.signal, onProgress: () => abort.abort() });
    const other = quantize(dense, file('shared'), 'Q4_K_M');
    await expect(aborted).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect((await other).bytes).toBe(bytes);
    expect(readFileSync(file('shared')).equals(readFileSync(file('alone')))).toBe(true);
    expect(readdirSync(folder).filter((name) => name.endsWith('.partial'))).toEqual([]);
  });
});
