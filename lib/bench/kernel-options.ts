/**
 * What a benchmark of kernels is told.
 */
import { z } from 'zod/mini';
import { tensorTypes } from '../gguf/shape.js';
import type { TensorType } from '../gguf/shape.js';
import { bag, intFrom, nonEmpty, oneOf, optional, signal } from '../options.js';
import { check } from '../validate.js';
import type { MatrixShape } from './shapes.js';

/**
 * Where the weights are: `streaming` goes round copies that no cache holds, as decoding goes through a model; `resident` takes
 * one matrix again and again, which the last-level cache holds.
 */
export const placements = ['streaming', 'resident'] as const;
export type Placement = (typeof placements)[number];

/** Options of {@link benchmarkKernels}. Every combination is measured. */
export interface KernelOptions {
  /** Default tq1_0, tq2_0, stq1_0 and q8_0. */
  readonly types?: readonly TensorType[] | undefined;
  /** Default 2560 rows of as many weights. {@link presetShapes} has those of real models. */
  readonly shapes?: readonly MatrixShape[] | undefined;
  /** Columns of activations: 1 is decoding. Default 1 and 8. */
  readonly tokens?: readonly number[] | undefined;
  /** Default 1, and one per physical core. */
  readonly threads?: readonly number[] | undefined;
  /** Names of ours, beside upstream's, which are always measured; or `fastest` (the default), or `all`. */
  readonly kernels?: 'fastest' | 'all' | readonly string[] | undefined;
  /** Default both. */
  readonly placements?: readonly Placement[] | undefined;
  /** Samples of each, after one that warms up. Default 20. */
  readonly repetitions?: number | undefined;
  /** What a sample takes at least; it has as many products. Default 5. */
  readonly sampleMs?: number | undefined;
  /** Bytes of copies that a streaming case goes round at least. Default: four times the last-level cache. */
  readonly streamBytes?: number | undefined;
  /** Called with the fraction that is done, 0 to 1, and what is being measured. */
  readonly onProgress?: ((fraction: number, what: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

function list<T>(each: z.ZodMiniType<T>, expected: string) {
  return z.array(each, { error: expected }).check(
    z.minLength(1, { error: expected }),
    z.refine((items) => new Set(items.map((item) => JSON.stringify(item))).size === items.length, { error: `${expected}, none of them twice` }),
  );
}

const size = intFrom(1, 2 ** 24);
const shape = bag<MatrixShape>({ rows: size, columns: size, experts: optional(intFrom(1, 65_536)), used: optional(intFrom(1, 65_536)) }, 'an object with `rows` and `columns`').check(
  z.refine(({ experts, used }) => (experts === undefined) === (used === undefined) && (used ?? 0) <= (experts ?? 0), { error: 'an object with `experts` and at most as many `used`, or neither' }),
);

const options = bag<KernelOptions>({
  types: optional(list(oneOf(tensorTypes), 'an array of types')),
  shapes: optional(list(shape, 'an array of shapes')),
  tokens: optional(list(intFrom(1, 65_536), 'an array of token counts')),
  threads: optional(list(intFrom(1, 512), 'an array of thread counts')),
  kernels: optional(z.union([oneOf(['fastest', 'all']), list(nonEmpty, 'an array of names')], { error: "'fastest', 'all' or an array of names of kernels, none of them twice" })),
  placements: optional(list(oneOf(placements), 'an array of placements')),
  repetitions: optional(intFrom(1, 10_000)),
  sampleMs: optional(intFrom(1, 60_000)),
  streamBytes: optional(intFrom(1, 2 ** 40)),
  onProgress: optional(z.custom<NonNullable<KernelOptions['onProgress']>>((value) => typeof value === 'function', { error: 'a function' })),
  signal: optional(signal),
});

/** @throws ERR_INVALID_ARG */
export function readKernelOptions(value: unknown): KernelOptions {
  return check('benchmarkKernels', 'options', options, value ?? {});
}
