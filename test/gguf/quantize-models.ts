// Models and importance matrices for the tests of quantize, and upstream's program beside ours.
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { inspect } from '../../dist/gguf/index.js';
import { writeGguf } from './write-gguf.js';

export const upstream = resolve('.build/cmake/bin/llama-quantize');

/** Runs llama-quantize in `folder`; its complaint if it fails. */
export function byUpstream(folder: string, ...args: readonly string[]): string {
  const { status, stderr } = spawnSync(upstream, [...args, '2'], { cwd: folder, encoding: 'utf8' });
  return status === 0 ? '' : stderr.slice(-400);
}

/** Importance of a column: far from even, so that it matters. */
export const importance = (column: number) => (column % 7 === 0 ? 50 : 0.02 + (column % 5) / 100);

// A model of a few rows: what quantises does not look at the shapes that the metadata promise.
export const facts = {
  'general.architecture': 'llama', 'general.name': 'hand-made', 'llama.block_count': 1, 'llama.context_length': 64, 'llama.embedding_length': 256,
  'llama.feed_forward_length': 256, 'llama.attention.head_count': 4, 'llama.attention.layer_norm_rms_epsilon': { f32: 1e-5 }, 'llama.vocab_size': 8,
} as const;
export const matrix = (name: string, rows: number, phase: number) => {
  const data = Buffer.from(Float32Array.from({ length: 256 * rows }, (_, i) => Math.sin(i * 0.37 + phase)).buffer);
  return { name, shape: [256, rows], type: 0, bytes: data.length, data };
};

export async function writeImatrix(path: string, model: string): Promise<void> {
  const entries = (await inspect(model)).tensors.filter(({ shape }) => shape.length >= 2);
  writeGguf(
    path,
    { 'general.type': 'imatrix', 'imatrix.datasets': ['some text.txt'], 'imatrix.chunk_count': 3, 'imatrix.chunk_size': 512 },
    entries.flatMap(({ name, shape: [columns = 1, , experts = 1] }) => {
      const sums = Float32Array.from({ length: columns * experts }, (_, i) => importance(i % columns) * 8);
      return [
        { name: `${name}.in_sum2`, shape: [columns, experts], type: 0, bytes: sums.byteLength, data: Buffer.from(sums.buffer) },
        { name: `${name}.counts`, shape: [1, experts], type: 0, bytes: 4 * experts, data: Buffer.from(new Float32Array(experts).fill(8).buffer) },
      ];
    }),
  );
}
