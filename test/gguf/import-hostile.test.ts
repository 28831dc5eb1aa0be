import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { importModel, synthesize } from '../../dist/gguf/index.js';
import { isTernionError } from '../../dist/index.js';
import { floats, readTensors } from './read-gguf.js';
import { entriesOf, fromTq2, toH1b, writeI2s } from './ternary-files.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-hostile-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string) => join(folder, name);
const tokenizer = 'models/tern-5m-tq2_0.gguf';
const shape = {
  architecture: 'bitnet-b1.58', layers: 1, width: 256, feedForward: 256, heads: 4, kvHeads: 2, headSize: 64, vocabulary: 3072, context: 64, ropeBase: 5e5, epsilon: 1e-5, tied: true,
} as const;

/** A file of either format, and where its header ends. */
async function files(): Promise<Record<'gguf' | 'h1b', { bytes: Buffer; end: number }>> {
  await synthesize(file('model'), shape, { types: { matrices: 'tq2_0', embedding: 'f32' } });
  await writeI2s(file('in'), file('model'), { entries: () => entriesOf(file('model')).filter(({ key }) => !key.startsWith('tokenizer.')) });
  const tensors = await readTensors(file('model'));
  const matrix = (name: string) => {
    const { data, shape: [, rows] } = tensors.get(`${name}.weight`)!;
    const { weights, scales } = fromTq2(data);
    return { weights, scales: Array.from({ length: rows! }, () => scales[0]!) };
  };
  const sizes = { hidden: 256, intermediate: 256, layers: 1, heads: 4, kvHeads: 2, vocabulary: 3072 };
  const gguf = readFileSync(file('in'));
  return {
    gguf: { bytes: gguf, end: gguf.indexOf('blk.0.ffn_down.weight') + 60 },
    h1b: { bytes: toH1b(2, sizes, (name) => floats(tensors.get(`${name}.weight`)!), matrix), end: 52 },
  };
}

// Each file is either read or refused with a code: nothing ends the process, takes gigabytes, or leaves a file behind.
test.each(['gguf', 'h1b'] as const)('any bytes in the header of a %s', { timeout: 120_000 }, async (format) => {
  const { bytes, end } = (await files())[format];
  let state = 1;
  const random = (n: number) => (state = (state * 48_271) % 2_147_483_647) % n;
  const seen: Record<string, number> = {};
  const before = process.memoryUsage().rss;
  for (let i = 0; i < 400; i++) {
    const changed = Buffer.from(bytes);
    for (let n = 1 + random(3); n > 0; n--) changed[random(end)] = [0, 1, 255, 127, random(256)][random(5)]!;
    if (random(4) === 0) changed.fill(255, random(end), end);
    writeFileSync(file('bad'), changed);
    const code = await importModel(file('bad'), file('out'), { tokenizer }).then(
      () => 'read',
      (error: unknown) => (isTernionError(error) ? error.code : String(error)),
    );
    seen[code] = (seen[code] ?? 0) + 1;
    rmSync(file('out'), { force: true });
  }
  expect(Object.keys(seen).sort()).toEqual(expect.arrayContaining(['ERR_MODEL_INVALID', 'read']) as string[]);
  expect(Object.keys(seen).filter((code) => !['read', 'ERR_MODEL_INVALID', 'ERR_MODEL_UNSUPPORTED'].includes(code))).toEqual([]);
  expect(readdirSync(folder).filter((name) => name.startsWith('out'))).toEqual([]);
  expect(process.memoryUsage().rss - before).toBeLessThan(600 << 20);
});
