/**
 * What a model of random weights is described by.
 */

/** Tensor types that can be filled with random weights, by ggml's names. */
export const tensorTypes = [
  'f32', 'f16', 'bf16', 'q1_0', 'q2_0', 'q4_0', 'q4_1', 'q5_0', 'q5_1', 'q8_0', 'mxfp4', 'nvfp4',
  'q2_K', 'q3_K', 'q4_K', 'q5_K', 'q6_K',
  'iq1_s', 'iq1_m', 'iq2_xxs', 'iq2_xs', 'iq2_s', 'iq3_xxs', 'iq3_s', 'iq4_nl', 'iq4_xs',
  'tq1_0', 'tq2_0', 'stq1_0',
] as const;
export type TensorType = (typeof tensorTypes)[number];

/** Architectures of llama.cpp that can be made. */
export const architectures = [
  'llama', 'llama-embed', 'qwen2', 'qwen3', 'qwen3moe', 'qwen35', 'qwen35moe', 'hunyuan-dense', 'bitnet', 'bitnet-25', 'bitnet-b1.58', 'phi3', 'gemma3', 'gpt-oss',
] as const;
export type Architecture = (typeof architectures)[number];

/** The sizes of a model. Widths are in weights, `context` in tokens. */
export interface Shape {
  readonly architecture: Architecture;
  readonly layers: number;
  /** Size of the embedding, and of everything between the layers. */
  readonly width: number;
  /** Of dense layers; 0 where every layer is a mixture. */
  readonly feedForward: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number;
  /** Tokens. The tokenizer is filled up to this with unused ones. */
  readonly vocabulary: number;
  readonly context: number;
  readonly ropeBase: number;
  readonly epsilon: number;
  /** The output head is the embedding. */
  readonly tied: boolean;
  /** Dimensions of a head that are rotated, where not all are. */
  readonly ropeDimensions?: number | undefined;
  /** A mixture: experts, how many of them work on a token, and their sizes. */
  readonly experts?: { readonly count: number; readonly used: number; readonly feedForward: number; readonly shared?: number | undefined } | undefined;
  /** Tokens that layers with a sliding window look back. */
  readonly window?: number | undefined;
  /** What BitNet's feed-forward uses; without it the file does not say. */
  readonly activation?: 'relu2' | 'silu' | undefined;
  /** An embedding model: how the vectors of a text's tokens become one. `llama-embed` sees both directions. */
  readonly pooling?: 'mean' | 'cls' | 'last' | undefined;
  /** Gated delta nets in three of four layers: heads of keys and values, the state's size, the convolution's width. */
  readonly linear?: { readonly keyHeads: number; readonly valueHeads: number; readonly state: number; readonly convolution: number } | undefined;
}

/** Which type each kind of tensor has. Norms, biases and routers are f32. */
export interface Types {
  /** Matrices of attention and feed-forward. */
  readonly matrices: TensorType;
  /** The experts of a mixture; default as `matrices`. */
  readonly experts?: TensorType | undefined;
  readonly embedding: TensorType;
  /** The output head; default as `embedding`. */
  readonly head?: TensorType | undefined;
}
