/**
 * Ternary models of other programs as GGUF files that llama.cpp reads.
 */
import { addon } from '../addon.js';
import { read } from '../options.js';
import { abortable } from '../task.js';

/** Options of {@link importModel}. */
export interface ImportOptions {
  /** Of the ternary matrices: 2.06 or 1.69 bits per weight. Default `'tq2_0'`, which decodes faster. */
  readonly type?: 'tq2_0' | 'tq1_0' | undefined;
  /** A GGUF whose tokenizer is taken. Needed for .h1b files; default: the file's own. */
  readonly tokenizer?: string | undefined;
  /** What the embedding and the output head become, where they are floating-point numbers. Default: they stay as they are. */
  readonly embedding?: 'f16' | 'q8_0' | 'q6_K' | undefined;
  /** Called with the fraction that is written, 0 to 1. */
  readonly onProgress?: ((fraction: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What {@link importModel} made. */
export interface Imported {
  /** What was read: `'GGUF with I2_S'`, `'GGUF'`, `'h1b version 2'` … */
  readonly source: string;
  /** llama.cpp's name of the architecture. */
  readonly architecture: string;
  /** What BitNet's feed-forward will use; undefined for other models, and where the file does not tell. */
  readonly activation: 'relu2' | 'silu' | undefined;
  /** Of the file that was written. */
  readonly bytes: number;
  /** Tensors whose ternary codes were written in another order, those that were quantised, and those that stayed as they were. */
  readonly tensors: { readonly ternary: number; readonly converted: number; readonly kept: number };
  /** Scales are rounded to half precision, the only loss of ternary weights: the largest relative difference. */
  readonly largestScaleError: number;
  /** What a person should know about the result. */
  readonly notes: readonly string[];
}

/**
 * Writes a GGUF of TQ2_0 or TQ1_0 from Microsoft's GGUF files with I2_S, in the layout of x86, or from an .h1b file of
 * version 1 to 4. The file appears under its name when it is whole. Memory stays small, whatever the size.
 *
 * @throws ERR_INVALID_ARG at once; rejects with ERR_INVALID_ARG (also if the output is the file that is read),
 * ERR_MODEL_NOT_FOUND, ERR_MODEL_INVALID, ERR_MODEL_UNSUPPORTED for what cannot be imported, ERR_IO, ERR_ABORTED.
 * @example
 * ```ts
 * await importModel('ggml-model-i2_s.gguf', 'bitnet-2b-4t.gguf', { embedding: 'q6_K' });
 * ```
 */
export function importModel(input: string, output: string, options: ImportOptions = {}): Promise<Imported> {
  return run(read.path('importModel', 'input', input), read.path('importModel', 'output', output), read.importOptions(options));
}

async function run(input: string, output: string, options: ImportOptions): Promise<Imported> {
  const { type = 'tq2_0', tokenizer = '', onProgress, signal } = options;
  const made = await abortable(signal, () => addon().importModel({ input, output, type, tokenizer, embedding: options.embedding ?? '' }, onProgress ?? null));
  const { source, architecture, activation, bytes, ternary, converted, kept, largestScaleError, notes } = made;
  return {
    source,
    architecture,
    activation: activation === 'relu2' || activation === 'silu' ? activation : undefined,
    bytes,
    tensors: { ternary, converted, kept },
    largestScaleError,
    notes,
  };
}
