// Weights that are numbers and no model's: sums over them overflow in the quantisers. A crash would end the process that tries.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
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
  'all zero but one': (i) => (i % 4096 === 77 ? 1e30 : 0),
  'far apart': (i) => 10 ** ((i % 76) - 38),
};

test.each(Object.keys(weights))('weights %s are quantised or refused', { timeout: 120_000 }, async (name) => {
  const tensor = (tensorName: string) => {
    const data = Buffer.from(Float32Array.from({ length: 256 * 64 }, (_, i) => weights[name]!(i)).buffer);
    return { ...matrix(tensorName, 64, 0), bytes: data.length, data };
  };
  writeGguf(file('model.gguf'), facts, ['token_embd.weight', 'output.weight', 'blk.0.attn_q.weight', 'blk.0.attn_v.weight', 'blk.0.ffn_down.weight', 'blk.0.ffn_up.weight'].map(tensor));
  await writeImatrix(file('model.imatrix'), file('model.gguf'));
  const outcomes = await inChild<Record<string, string>>('test/hostile/quantize.mjs', [file('model.gguf'), file('model.imatrix')], { timeoutMs: 110_000 });
  expect(Object.keys(outcomes)).toEqual([...quantizeTypes]);
  for (const [type, outcome] of Object.entries(outcomes)) expect(`${type}: ${outcome}`).toMatch(/: (done|ERR_MODEL_UNSUPPORTED .*cannot be quantised to)/);
  expect(outcomes['F32']).toBe('done');
});
