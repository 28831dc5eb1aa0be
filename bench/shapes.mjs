// The benchmark's models: seeded random weights in true shapes, made once and kept under .build; and the embedded one.

import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { ROOT, WORK } from '../scripts/run.mjs';

/** S: 19 M weights, 32,000 tokens. M: 1.1 B weights. Ternary (TQ2_0), head and embeddings Q8_0. */
export const SHAPES = ['S', 'M'];

/** Path of a model's file; a shape's is written if it is not there yet. */
export async function shapeFile(shape) {
  if (shape === 'embedded') return join(ROOT, 'models', 'tern-5m-tq2_0.gguf');
  const path = join(WORK, 'bench', `${shape}.gguf`);
  if (existsSync(path)) return path;
  const { synthesize } = await import('../dist/gguf/index.js'); // needs what setUp made
  mkdirSync(join(WORK, 'bench'), { recursive: true });
  await synthesize(path, shape, { tokenizer: join(ROOT, 'vendor', 'llama', 'models', 'ggml-vocab-llama-spm.gguf') });
  return path;
}
