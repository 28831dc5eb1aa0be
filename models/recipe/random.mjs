// The members whose weights are random: `node models/recipe/random.mjs`. The same bytes on every machine.

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { synthesize } from '../../dist/gguf/index.js';

const MODELS = fileURLToPath(new URL('..', import.meta.url));

const common = { width: 256, feedForward: 512, heads: 4, kvHeads: 2, headSize: 64, vocabulary: 3072, context: 2048, ropeBase: 5e4, epsilon: 1e-5, tied: true };

/** File → shape and types. */
export const RANDOM = {
  // Gated delta nets in three of its four layers, attention in the fourth.
  'tern-hybrid-random.gguf': {
    shape: { ...common, architecture: 'qwen35', tied: false, layers: 4, linear: { keyHeads: 2, valueHeads: 4, state: 64, convolution: 4 } },
    types: { matrices: 'q8_0', embedding: 'q8_0' },
  },
  // Sees both directions and takes the mean. F16, since rounded activations would hide what a batch changes.
  'tern-embedding-random.gguf': {
    shape: { ...common, architecture: 'llama-embed', layers: 2, pooling: 'mean' },
    types: { matrices: 'f16', embedding: 'f16' },
  },
};

/** Writes all of them to `folder`. */
export async function makeRandom(folder = MODELS) {
  for (const [file, { shape, types }] of Object.entries(RANDOM)) {
    await synthesize(join(folder, file), shape, { types, tokenizer: join(MODELS, 'tern-5m-tq2_0.gguf') });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await makeRandom();
