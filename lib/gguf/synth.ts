/**
 * Models of random weights: any shape, for measuring and for tests.
 */
import { fileURLToPath } from 'node:url';
import { addon } from '../addon.js';
import { TernionError, fromNative } from '../errors.js';
import { nearest, refuse } from '../validate.js';
import { presets } from './presets.js';
import type { PresetName } from './presets.js';
import { tensorTypes } from './shape.js';
import type { Shape, TensorType, Types } from './shape.js';
import { metadataOf, tensorsOf } from './tensors.js';

/** Options of {@link synthesize}. */
export interface SynthOptions {
  /** Cuts the depth to so many layers. */
  readonly layers?: number | undefined;
  /** Types in place of the preset's. */
  readonly types?: Partial<Types> | undefined;
  /** 0 to 4294967295. The same seed gives the same bytes on every machine. Default 1. */
  readonly seed?: number | undefined;
  /** A GGUF whose tokenizer is used, filled up with unused tokens. Default: the embedded model's. */
  readonly tokenizer?: string | undefined;
  /** Full metadata and tensor table in a sparse file of the full size, without weights. */
  readonly headerOnly?: boolean | undefined;
  /** Called with the fraction that is written, 0 to 1. */
  readonly onProgress?: ((fraction: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

const embedded = fileURLToPath(new URL('../../models/tern-5m-tq2_0.gguf', import.meta.url));
const largestSeed = 2 ** 32 - 1;

/**
 * Writes a GGUF of seeded random weights and resolves to its size in bytes. The file appears under its name when it is
 * whole. Memory stays small, whatever the size.
 *
 * @param shape - a preset's name (see {@link presets}), or sizes of your own; then `types` is needed
 * @throws ERR_INVALID_ARG at once; rejects with ERR_INVALID_ARG for tensors that cannot be, ERR_IO, ERR_MODEL_INVALID (the
 * tokenizer's file), ERR_ABORTED.
 * @example
 * ```ts
 * await synthesize('m.gguf', 'M', { seed: 7 });
 * ```
 */
export async function synthesize(path: string, shape: PresetName | Shape, options: SynthOptions = {}): Promise<number> {
  const { signal, seed = 1 } = options;
  const [name, chosen] = typeof shape === 'string' ? [shape, preset(shape)] : ['synthetic', { shape, types: undefined }];
  const layers = options.layers ?? chosen.shape.layers;
  if (!Number.isInteger(layers) || layers < 1 || layers > 10_000) refuse('synthesize', 'options.layers', `options.layers must be an integer from 1 to 10000; found ${layers}`);
  if (!Number.isInteger(seed) || seed < 0 || seed > largestSeed) refuse('synthesize', 'options.seed', `options.seed must be an integer from 0 to ${largestSeed}; found ${seed}`);
  const sizes = { ...chosen.shape, layers };
  for (const [key, value] of Object.entries(sizes)) {
    if (typeof value === 'number' && (!Number.isFinite(value) || value < 0 || value > 2 ** 31 - 1)) refuse('synthesize', `shape.${key}`, `shape.${key} must be a number from 0 to 2147483647; found ${value}`);
  }
  const types = { ...chosen.types, ...defined(options.types ?? {}) };
  if (types.matrices === undefined || types.embedding === undefined) refuse('synthesize', 'options.types', 'options.types must name at least `matrices` and `embedding` for a shape of your own');
  for (const [key, type] of Object.entries(types)) checkType(key, type);

  if (signal?.aborted) throw new TernionError('ERR_ABORTED', 'writing was aborted', { cause: signal.reason });
  let cancel = () => {};
  try {
    const task = addon().synthesize(
      {
        path,
        tokenizer: options.tokenizer ?? embedded,
        vocabulary: sizes.vocabulary,
        seed,
        headerOnly: options.headerOnly ?? false,
        metadata: metadataOf(sizes, `${name}, random weights`),
        tensors: tensorsOf(sizes, types as Types),
      },
      options.onProgress ?? null,
    );
    cancel = () => task.cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    return await task.promise;
  } catch (failure) {
    throw fromNative(failure, signal?.aborted ? { cause: signal.reason } : {});
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}

function preset(name: string): { readonly shape: Shape; readonly types: Types } {
  if (Object.hasOwn(presets, name)) return presets[name as PresetName];
  const near = nearest(name, Object.keys(presets));
  return refuse('synthesize', 'shape', `no preset '${name}'; ${near === undefined ? `there are ${Object.keys(presets).join(', ')}` : `did you mean '${near}'?`}`);
}

function checkType(key: string, type: string): asserts type is TensorType {
  if (!(tensorTypes as readonly string[]).includes(type)) refuse('synthesize', `options.types.${key}`, `options.types.${key} must be one of ${tensorTypes.join(', ')}; found '${type}'`);
}

function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}
