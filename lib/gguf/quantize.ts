/**
 * Models in smaller types.
 */
import { addon } from '../addon.js';
import { TernionError } from '../errors.js';
import type { NativeQuantization } from './native.js';
import { read } from '../options.js';
import { abortable } from '../task.js';
import { nearest, refuse } from '../validate.js';
import { inspectParts } from './parts.js';
import type { TensorType } from './shape.js';

/** What {@link quantize} makes: llama.cpp's mixtures by their names, and STQ1_0. `COPY` changes no type (it joins the parts of a split model). */
export const quantizeTypes = [
  'F32', 'F16', 'BF16', 'Q8_0', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1',
  'Q2_K', 'Q2_K_S', 'Q3_K', 'Q3_K_S', 'Q3_K_M', 'Q3_K_L', 'Q4_K', 'Q4_K_S', 'Q4_K_M', 'Q5_K', 'Q5_K_S', 'Q5_K_M', 'Q6_K',
  'IQ1_S', 'IQ1_M', 'IQ2_XXS', 'IQ2_XS', 'IQ2_S', 'IQ2_M', 'IQ3_XXS', 'IQ3_XS', 'IQ3_S', 'IQ3_M', 'IQ4_NL', 'IQ4_XS',
  'MXFP4_MOE', 'TQ1_0', 'TQ2_0', 'STQ1_0', 'Q1_0', 'Q2_0', 'COPY',
] as const;
export type QuantizeType = (typeof quantizeTypes)[number];

/** Options of {@link quantize}. */
export interface QuantizeOptions {
  /** Type of the embedding. Default: llama.cpp's choice for the mixture. */
  readonly embedding?: TensorType | undefined;
  /** Type of the output head, or of the embedding where that is the head, too. Default: llama.cpp's choice. */
  readonly head?: TensorType | undefined;
  /** An importance matrix, as `llama-imatrix` writes it (GGUF, or the older format). */
  readonly imatrix?: string | undefined;
  /** Writes ternary types (TQ1_0, TQ2_0, STQ1_0, Q1_0, Q2_0) for weights that are not ternary, too. */
  readonly force?: boolean | undefined;
  /** Rounds weights a second time. Ternary ones need no leave: they are exact. */
  readonly allowRequantize?: boolean | undefined;
  /** Default: one per physical core that the process may use. */
  readonly threads?: number | undefined;
  /** Called with the fraction that is done, 0 to 1. */
  readonly onProgress?: ((fraction: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A tensor of the new file. `relativeError` is ‖W − Ŵ‖² / ‖W‖², 0 for what was copied; `lossless` that every weight is the same number. */
export type QuantizedTensor = NativeQuantization['tensors'][number];

/** The result of {@link quantize}. */
export interface Quantization {
  readonly file: string;
  readonly type: QuantizeType;
  readonly inputBytes: number;
  readonly bytes: number;
  /** Of all tensors that were converted together. */
  readonly relativeError: number;
  /** Every tensor that was converted is. */
  readonly lossless: boolean;
  readonly tensors: readonly QuantizedTensor[];
}

/** Ternary weights come back with what rounding their scales to half precision makes, 1e-7; others with 0.1 and more. */
const mostTernaryError = 0.02;

/**
 * Writes the model with its weights in another type. The file appears under its name when it is whole. Memory stays small,
 * whatever the size. Any part of a split model stands for all of them.
 *
 * @throws rejects with ERR_INVALID_ARG (also for an output that is the input, a type that does not fit, an importance matrix
 * that is missing or another model's), ERR_MODEL_UNSUPPORTED (weights that are not ternary for a ternary type, or that were
 * rounded before), ERR_MODEL_NOT_FOUND, ERR_MODEL_INVALID, ERR_IO, ERR_ABORTED.
 * @example
 * ```ts
 * const { tensors } = await quantize('model-f16.gguf', 'model-tq2_0.gguf', 'TQ2_0', { embedding: 'q6_K' });
 * ```
 */
export async function quantize(input: string, output: string, type: QuantizeType, options: QuantizeOptions = {}): Promise<Quantization> {
  const from = read.path('quantize', 'input', input);
  const file = read.path('quantize', 'output', output);
  checkType(read.text('quantize', 'type', type));
  const { embedding = '', head = '', imatrix = '', force = false, allowRequantize = false, threads = 0, onProgress, signal } = read.quantizeOptions(options);
  if (type === 'COPY' && embedding + head + imatrix !== '') refuse('quantize', 'options', 'COPY changes no type, so it takes none of options.embedding, options.head and options.imatrix');

  const { joined, parts, missing, firstMissing } = await inspectParts(from);
  if (missing > 0) throw new TernionError('ERR_MODEL_INVALID', `${from}: ${missing} of its parts are missing${firstMissing === undefined ? '' : `, ${firstMissing} first`}; put them beside it`, { details: { path: from } });
  const tied = !joined.tensors.some(({ name }) => name === 'output.weight');
  if (tied && head !== '' && embedding !== '') refuse('quantize', 'options.head', `options.head and options.embedding are one thing for ${from}, whose head is its embedding; give one of them`);
  const report = await abortable(signal, () =>
    addon().quantize(
      {
        inputs: parts.map(({ path }) => path),
        output: file,
        type,
        embedding: tied && embedding === '' ? head : embedding,
        head: tied ? '' : head,
        imatrix,
        allowRequantize,
        mostTernaryError: force ? Infinity : mostTernaryError,
        threads,
      },
      onProgress ?? null,
    ),
  );
  return { file, type, inputBytes: joined.fileBytes, lossless: report.tensors.every(({ lossless }) => lossless), ...report };
}

function checkType(type: string): asserts type is QuantizeType {
  if ((quantizeTypes as readonly string[]).includes(type)) return;
  const near = nearest(type, quantizeTypes);
  refuse('quantize', 'type', `no type '${type}'; ${near === undefined ? '' : `did you mean '${near}'? `}there are ${quantizeTypes.join(', ')}`);
}
