/**
 * Which layers of a model cache keys and values, and for how many tokens.
 */
import type { Inspection } from '../inspect.js';
import { kvTypes } from '../kv.js';
import type { KvType } from '../kv.js';

/** Layer numbers by what their cache holds. */
export interface CachedLayers {
  /** All tokens. */
  readonly full: readonly number[];
  /** The last tokens only. */
  readonly windowed: readonly number[];
  /** Layers whose state does not grow. */
  readonly recurrent: number;
}

/**
 * One layer in so many is full where the others have a window, the last of each group or, if `first`, the first: facts of
 * llama.cpp's architectures. A file's own pattern goes before.
 */
const patterns: Readonly<Record<string, readonly [every: number, first?: boolean]>> = {
  afmoe: [4], cohere2: [4], cohere2moe: [4, true], deepseek4: [0], exaone4: [4], 'exaone-moe': [4], 'gemma-embedding': [6], gemma2: [2],
  gemma3: [6], gemma3n: [5], 'gpt-oss': [2], laguna: [4, true], llama4: [4], mellum: [4], 'modern-bert': [3, true], 'muse-glimmer': [4],
  olmo2: [4], plamo3: [8], smallthinker: [4, true],
};

/** Weights per block and bytes per block of the KV cache's types: facts of ggml's formats. */
const kvBlocks: Readonly<Record<KvType, readonly [weights: number, bytes: number]>> = {
  f32: [1, 4], f16: [1, 2], bf16: [1, 2], q8_0: [32, 34], q5_1: [32, 24], q5_0: [32, 22], q4_1: [32, 20], q4_0: [32, 18], iq4_nl: [32, 18],
};

/** Counts what the tensors show: a header may claim any number of layers. */
export function cachedLayers(file: Inspection, architecture: string, layers: number): CachedLayers {
  const attention = new Set<number>();
  const recurrent = new Set<number>();
  for (const { name } of file.tensors) {
    const [, layer, kind] = /^blk\.(\d+)\.(ssm_|attn_(?:k|qkv|kv_a_mqa)\.)/.exec(name) ?? [];
    if (layer !== undefined && Number(layer) < layers) (kind === 'ssm_' ? recurrent : attention).add(Number(layer));
  }
  const cached = [...attention].filter((layer) => !recurrent.has(layer)).sort((a, b) => a - b);
  const isWindowed = windows(file, architecture);
  const windowed = cached.filter(isWindowed);
  return { full: cached.filter((layer) => !isWindowed(layer)), windowed, recurrent: layers - cached.length };
}

function windows(file: Inspection, architecture: string): (layer: number) => boolean {
  const value = (key: string): unknown => file.metadata.find((entry) => entry.key === `${architecture}.${key}`)?.value;
  const window = value('attention.sliding_window');
  if (typeof window !== 'number' || window <= 0) return () => false;
  const stated = value('attention.sliding_window_pattern');
  if (Array.isArray(stated)) return (layer) => Boolean(stated[layer]);
  const [usual, first = false] = patterns[architecture] ?? [1];
  const every = typeof stated === 'number' ? stated : usual;
  if (every === 0) return () => true;
  return first ? (layer) => layer % every !== 0 : (layer) => layer % every < every - 1;
}

/** Bytes that one token takes in the caches of these layers, by type of both keys and values. */
export function kvBytes(file: Inspection, architecture: string, layers: readonly number[]): Record<KvType, number> {
  const value = (key: string, layer: number): number | undefined => {
    const found = file.metadata.find((entry) => entry.key === `${architecture}.${key}`)?.value;
    const one: unknown = Array.isArray(found) ? found[layer] : found; // head counts may differ by layer
    return typeof one === 'number' ? one : undefined;
  };
  let weights = 0;
  for (const layer of layers) {
    const heads = value('attention.head_count', layer) ?? 0;
    const size = heads > 0 ? (value('embedding_length', layer) ?? 0) / heads : 0;
    const keys = value('attention.key_length', layer) ?? size;
    // Multi-head latent attention keeps one compressed row, and reads the values from it.
    const values = value('attention.key_length_mla', layer) === undefined ? (value('attention.value_length', layer) ?? size) : 0;
    weights += (value('attention.head_count_kv', layer) ?? heads) * (keys + values);
  }
  return Object.fromEntries(kvTypes.map((type) => [type, (weights * kvBlocks[type][1]) / kvBlocks[type][0]])) as Record<KvType, number>;
}
