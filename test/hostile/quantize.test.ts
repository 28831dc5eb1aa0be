// Weights that are numbers and no model's: sums over them overflow in the quantisers. A crash would end the process that tries.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { quantizeTypes } from '../../dist/gguf/index.js';
import { facts, matrix, writeImatrix } from '../gguf/quantize-models.js';
import { writeGguf } from '../gguf/write-gguf.js';
import { inChild } from './child.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-hostile-quantize-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string) => join(folder, name);

const weights: Readonly<Record<string, (i: number) => number>> = {
  'as large as floats get': (i) => Math.sin(i) * 3e38,
  'of which the squares overflow': (i) => Math.cos(i * 0.7) * 1e25,
  'as small as floats get': (i) => Math.sin(i) * 1e-44,
  'all alike': () => 1,
  'all zero but one': (i) => (i % 512 === 77 ? 1e30 : 0),
  'far apart': (i) => 10 ** ((i % 76) - 38),
};

let outcomes: Record<string, Record<string, string>>;

// In one process, which makes the tables of some types, seconds of work, once.
beforeAll(async () => {
  for (const [name, weight] of Object.entries(weights)) {
    const tensor = (tensorName: string) => {
      const data = Buffer.from(Float32Array.from({ length: 256 * 8 }, (_, i) => weight(i)).buffer);
      return { ...matrix(tensorName, 8, 0), bytes: data.length, data };
    };
    writeGguf(file(name), facts, ['token_embd.weight', 'output.weight', 'blk.0.attn_v.weight', 'blk.0.ffn_down.weight'].map(tensor));
  }
  const files = Object.keys(weights).map(file);
  await writeImatrix(file('imatrix'), files[0]!);
  outcomes = await inChild('test/hostile/quantize.mjs', [file('imatrix'), ...files], { timeoutMs: 170_000 });
}, 180_000);

test.each(Object.keys(weights))('weights %s are quantised or refused', (name) => {
  const found = outcomes[file(name)]!;
  expect(Object.keys(found)).toEqual([...quantizeTypes]);
  for (const [type, outcome] of Object.entries(found)) expect(`${type}: ${outcome}`).toMatch(/: (done|ERR_MODEL_UNSUPPORTED .*cannot be quantised to)/);
  expect(found['F32']).toBe('done');
});
