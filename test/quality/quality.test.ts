import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { synthesize } from '../../dist/gguf/index.js';
import { isTernionError, loadModel } from '../../dist/index.js';
import type { Model } from '../../dist/index.js';
import { compare, perplexity } from '../../dist/quality/index.js';

const embedded = 'models/tern-5m-tq2_0.gguf';
process.env['TERNION_KERNEL'] = 'upstream'; // whose programs we compare with: other kernels round otherwise
const folder = mkdtempSync(join(tmpdir(), 'ternion-quality-'));
const heldOut = 'models/recipe/heldout';
const textFile = join(folder, 'text.txt');
// Text that stays as it is, and that the embedded model can predict.
const text = readdirSync(heldOut).filter((name) => name.endsWith('.jsonl')).flatMap((name) => readFileSync(join(heldOut, name), 'utf8').trim().split('\n'))
  .map((row) => (JSON.parse(row) as { prompt: string }).prompt.replace(/<[^>]*>/g, ' ')).join('\n').slice(0, 16_000);
const open = (path: string) => loadModel(path, { devices: ['cpu'], context: 512 });

const shape = { layers: 2, width: 256, feedForward: 512, heads: 4, kvHeads: 2, headSize: 64, vocabulary: 4096, context: 512, ropeBase: 1e4, epsilon: 1e-5, tied: false };
const mixture = { ...shape, architecture: 'qwen3moe', experts: { count: 8, used: 2, feedForward: 256 } } as const;

beforeAll(async () => {
  writeFileSync(textFile, text);
  await synthesize(join(folder, 'f16'), { ...shape, architecture: 'llama' }, { types: { matrices: 'f16', embedding: 'f16' } });
  await synthesize(join(folder, 'q8_0'), { ...shape, architecture: 'llama' }, { types: { matrices: 'q8_0', embedding: 'q8_0' } });
  await synthesize(join(folder, 'moe'), mixture, { types: { matrices: 'q8_0', embedding: 'f16' } });
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('perplexity', () => {
  test.each([embedded, 'f16', 'q8_0', 'moe'])('of %s is that of llama-perplexity to four digits', async (name) => {
    const path = name === embedded ? name : join(folder, name);
    const args = ['-m', path, '-f', textFile, '-c', '512', '-dev', 'none', '-t', '2'];
    let final: RegExpExecArray | null = null;
    for (let attempt = 0; final === null && attempt < 10; attempt++) { // its log thread now and then loses the last line
      const { stdout, stderr } = spawnSync('.build/cmake/bin/llama-perplexity', args, { encoding: 'utf8' });
      final = /Final estimate: PPL = ([\d.]+) \+\/- ([\d.]+)/.exec(stdout + stderr);
    }
    const model = await open(path);
    const result = await perplexity(model, text);
    await model.dispose();
    expect(result.perplexity / Number(final?.[1])).toBeCloseTo(1, 4);
    expect(result.standardError / Number(final?.[2])).toBeCloseTo(1, 3);
    expect(result.tokens).toBe(result.chunks * 255);
  });

  test('a text shorter than two chunks says so, with the counts', async () => {
    const model = await open(embedded);
    const error: unknown = await perplexity(model, 'too short').catch((e: unknown) => e);
    expect(isTernionError(error, 'ERR_INVALID_ARG') && error.details).toMatchObject({ needed: 1024 });
    await expect(perplexity(model, text, { context: 2 })).rejects.toThrow(/at least 4/);
    await expect(perplexity(model, text, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    await model.dispose();
  });
});

describe('score', () => {
  test('knows the type of the KV cache, as logits do', async () => {
    const tokens = [...Array(64).keys()].map((i) => 300 + 7 * i);
    const [f16, q4] = await Promise.all((['f16', 'q4_0'] as const).map((kv) => loadModel(embedded, { devices: ['cpu'], context: 512, kv })));
    const last = (all: Float32Array) => all[all.length - 1];
    expect(last(await f16!.score(tokens))).not.toBe(last(await q4!.score(tokens)));
    expect(last(await f16!.logits(tokens))).not.toBe(last(await q4!.logits(tokens)));
    await Promise.all([f16, q4].map((model) => model!.dispose()));
  });

  test('is the log softmax of the logits', async () => {
    const model: Model = await open(embedded);
    const tokens = await model.tokenize('Once upon a time, there was a fox.');
    const scores = await model.score(tokens);
    const logits = await model.logits(tokens);
    const width = model.info.vocabulary;
    expect(scores).toHaveLength(tokens.length - 1);
    for (let i = 0; i + 1 < tokens.length; i++) {
      const row = [...logits.subarray(i * width, (i + 1) * width)];
      const largest = Math.max(...row);
      const log = largest + Math.log(row.reduce((sum, value) => sum + Math.exp(value - largest), 0));
      expect(scores[i]).toBeCloseTo((row[tokens[i + 1]!] ?? 0) - log, 4);
    }
    expect(await model.score([5])).toHaveLength(0);
    await expect(model.score([999_999, 1])).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
    await model.dispose();
  });
});

describe('compare', () => {
  test('a model does not differ from itself; another does, and the perplexities are right', async () => {
    const [a, same, other] = await Promise.all([open(join(folder, 'f16')), open(join(folder, 'f16')), open(join(folder, 'q8_0'))]);
    const nothing = await compare(a, same, text);
    expect(nothing).toMatchObject({ divergence: 0, largestDivergence: 0, topAgreement: 1, logRatio: 0 });
    const something = await compare(a, other, text);
    expect(something.divergence).toBeGreaterThan(0.01);
    expect(something.topAgreement).toBeLessThan(0.9);
    expect(something.perplexityA).toBeCloseTo((await perplexity(a, text)).perplexity, 1);
    expect(something.logRatio).toBeCloseTo(Math.log(something.perplexityB / something.perplexityA), 6);
    await Promise.all([a, same, other].map((model) => model.dispose()));
  });

  test('different vocabularies are refused', async () => {
    const [a, b] = await Promise.all([open(embedded), open(join(folder, 'f16'))]);
    await expect(compare(a, b, text)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
    await Promise.all([a.dispose(), b.dispose()]);
  });
});

test('the commands', () => {
  const run = (...args: string[]) => execFileSync(process.execPath, ['dist/cli/main.js', ...args, '--device', 'cpu'], { encoding: 'utf8' });
  expect(run('perplexity', embedded, textFile)).toMatch(/^perplexity [\d.]+ ± [\d.]+ +\(\d+ tokens in \d+ chunks\)\n$/);
  expect(JSON.parse(run('compare', embedded, embedded, textFile, '--json'))).toMatchObject({ divergence: 0, topAgreement: 1 });
});
