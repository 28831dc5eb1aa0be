// The types whose tables take llama.cpp seconds to build, in each process anew.
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { quantize, quantizeTypes } from '../../dist/gguf/index.js';
import { byUpstream, facts, matrix, writeImatrix } from './quantize-models.js';
import { writeGguf } from './write-gguf.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-quantize-long-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string) => join(folder, name);
const names = ['token_embd', 'output', ...['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down'].map((name) => `blk.0.${name}`)];

beforeAll(async () => {
  writeGguf(file('small.gguf'), facts, names.map((name, i) => matrix(`${name}.weight`, 8, i)));
  writeGguf(file('tall.gguf'), facts, names.map((name, i) => matrix(`${name}.weight`, 2048, i)));
  await writeImatrix(file('small.imatrix'), file('small.gguf'));
});

test.each(quantizeTypes.filter((type) => /^IQ[12]|^IQ3_XXS|^Q2_K_S/.test(type)))('%s is the same file as upstream\'s, byte for byte', { timeout: 120_000 }, async (type) => {
  await quantize(file('small.gguf'), file('ours.gguf'), type, { imatrix: file('small.imatrix') });
  expect(byUpstream(folder, '--imatrix', 'small.imatrix', file('small.gguf'), file('theirs.gguf'), type)).toBe('');
  expect(readFileSync(file('ours.gguf')).equals(readFileSync(file('theirs.gguf')))).toBe(true);
});

test('an abort does not wait for the rows at hand', { timeout: 120_000 }, async () => {
  await quantize(file('small.gguf'), file('tables.gguf'), 'IQ1_S', { imatrix: file('small.imatrix') });
  const abort = new AbortController();
  const work = quantize(file('tall.gguf'), file('out'), 'IQ1_S', { imatrix: file('small.imatrix'), threads: 1, signal: abort.signal });
  let aborted = Infinity;
  setTimeout(() => {
    aborted = performance.now();
    abort.abort();
  }, 500);
  await expect(work).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  expect(performance.now() - aborted).toBeLessThan(5000); // the rows at hand take half a minute
  expect(readdirSync(folder).filter((name) => name.startsWith('out'))).toEqual([]);
});
