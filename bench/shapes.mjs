// The benchmark's models: seeded random weights in true shapes, made once and kept under .build.

import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';

import { ROOT, SetupError, WORK, ask, run } from '../scripts/run.mjs';

/** S: 19 M weights, 32,000 tokens. M: 1.1 B weights. Ternary (TQ2_0), head and embeddings Q8_0. */
export const SHAPES = ['S', 'M'];

/** Path of a shape's file, which is written if it is not there yet. */
export async function shapeFile(shape) {
  const folder = join(WORK, 'bench');
  const path = join(folder, `${shape}.gguf`);
  if (existsSync(path)) return path;
  if (ask('python3', ['-c', 'import numpy; print(1)']) === undefined) {
    throw new SetupError("the benchmark's models are made with numpy: install python3-numpy");
  }
  mkdirSync(folder, { recursive: true });
  await run('python3', [join(ROOT, 'bench', 'shapes.py'), shape, `${path}.new`]);
  renameSync(`${path}.new`, path);
  return path;
}
