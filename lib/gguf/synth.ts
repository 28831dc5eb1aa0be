/**
 * Models of random weights: any shape, for measuring and for tests.
 */
import { fileURLToPath } from 'node:url';
import { addon } from '../addon.js';
import { read } from '../options.js';
import { abortable } from '../task.js';
import { check, nearest, refuse } from '../validate.js';
import { presets } from './presets.js';
import type { PresetName } from './presets.js';
import type { Shape, Types } from './shape.js';
import { shapeSchema, synthOptions } from './synth-options.js';
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
  const file = read.path('synthesize', 'path', path);
  const chosen = typeof shape === 'string' ? preset(shape) : { shape: check('synthesize', 'shape', shapeSchema, shape), types: undefined };
  const { layers, types: given, seed = 1, tokenizer = embedded, headerOnly = false, onProgress, signal } = check('synthesize', 'options', synthOptions, options);
  const sizes = { ...chosen.shape, ...(layers !== undefined && { layers }) };
  const types = { ...chosen.types, ...defined(given ?? {}) };
  if (types.matrices === undefined || types.embedding === undefined) refuse('synthesize', 'options.types', 'options.types must name at least `matrices` and `embedding` for a shape of your own');

  const request = {
    path: file,
    tokenizer,
    vocabulary: sizes.vocabulary,
    seed,
    headerOnly,
    metadata: metadataOf(sizes, `${typeof shape === 'string' ? shape : 'synthetic'}, random weights`),
    tensors: tensorsOf(sizes, types as Types),
  };
  return abortable(signal, () => addon().synthesize(request, onProgress ?? null));
}

function preset(name: string): { readonly shape: Shape; readonly types: Types } {
  if (Object.hasOwn(presets, name)) return presets[name as PresetName];
  const near = nearest(name, Object.keys(presets));
  return refuse('synthesize', 'shape', `no preset '${name}'; ${near === undefined ? `there are ${Object.keys(presets).join(', ')}` : `did you mean '${near}'?`}`);
}

function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}
