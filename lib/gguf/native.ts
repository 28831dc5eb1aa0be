/**
 * What the addon is told to write, and what it tells of it: see {@link Addon} in `lib/native.ts`.
 */

export interface NativeImportOptions {
  readonly input: string;
  readonly output: string;
  readonly type: string;
  /** A GGUF whose tokenizer is taken; empty = the input's. */
  readonly tokenizer: string;
  /** Type of embedding and head; empty = as they are. */
  readonly embedding: string;
}

export interface NativeImported {
  readonly source: string;
  readonly architecture: string;
  /** Empty where the architecture leaves no choice, or nothing is known. */
  readonly activation: string;
  readonly bytes: number;
  readonly ternary: number;
  readonly converted: number;
  readonly kept: number;
  readonly largestScaleError: number;
  readonly notes: readonly string[];
}

export interface NativeSynthOptions {
  readonly path: string;
  /** A GGUF whose tokenizer is copied; empty = none. */
  readonly tokenizer: string;
  /** Tokens that the tokenizer is filled up to, 0 = as it is. */
  readonly vocabulary: number;
  readonly seed: number;
  readonly headerOnly: boolean;
  readonly metadata: readonly NativeSynthValue[];
  /** `value`: standard deviation if `random`, else what every weight is. */
  readonly tensors: readonly {
    readonly name: string;
    readonly type: string;
    readonly shape: Int32Array;
    readonly random: boolean;
    readonly value: number;
  }[];
}

export type NativeSynthValue =
  | { readonly key: string; readonly type: 'bool'; readonly value: boolean }
  | { readonly key: string; readonly type: 'u32' | 'f32'; readonly value: number }
  | { readonly key: string; readonly type: 'str'; readonly value: string }
  | { readonly key: string; readonly type: 'i32s'; readonly value: Int32Array };

export interface NativeQuantizeOptions {
  /** The parts of the model, the first one first. */
  readonly inputs: readonly string[];
  readonly output: string;
  /** llama.cpp's name of a mixture, STQ1_0 or COPY. */
  readonly type: string;
  /** ggml's names of types; empty = llama.cpp's choice. */
  readonly embedding: string;
  readonly head: string;
  /** A path, empty = none. */
  readonly imatrix: string;
  readonly allowRequantize: boolean;
  /** Relative error from which on weights are not ternary. */
  readonly mostTernaryError: number;
  /** 0 = one per physical core. */
  readonly threads: number;
}

export interface NativeQuantization {
  readonly bytes: number;
  readonly relativeError: number;
  readonly tensors: readonly {
    readonly name: string;
    readonly from: string;
    readonly to: string;
    readonly bytes: number;
    readonly relativeError: number;
    readonly lossless: boolean;
  }[];
}
