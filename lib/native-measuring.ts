/**
 * What of the addon measures the machine and single kernels; part of the contract that `native.ts` states.
 */
import type { NativeLoadOptions, NativeTask } from './native.js';

type OnProgress = ((fraction: number) => void) | null;

export interface NativeMeasuring {
  /** Bytes per second that so many threads read together. Takes a gibibyte and about a second. */
  readBandwidth(threads: number, onProgress: OnProgress): NativeTask<number>;
  /** The same of a GPU, while it multiplies. Rejects with ERR_DEVICE_NOT_FOUND, ERR_OUT_OF_MEMORY, ERR_MODEL_UNSUPPORTED, ERR_DEVICE_LOST or ERR_ABORTED. */
  deviceBandwidth(id: string, onProgress: OnProgress): NativeTask<number>;
  /** 8-bit multiply-adds per second of so many threads, on registers alone. `instruction` is empty where none is known. */
  multiplyPeak(threads: number, onProgress: OnProgress): NativeTask<{ readonly instruction: string; readonly productsPerSecond: number }>;
  /**
   * Seconds of a model's steps of one sequence, `tokens` tokens after `depth` others, computed in memory that stands in for the model's.
   * Rejects as a dry run does, and with ERR_INVALID_ARG or ERR_OUT_OF_MEMORY.
   */
  stepTimes(options: NativeLoadOptions, points: readonly { readonly tokens: number; readonly depth: number }[], onProgress: OnProgress): NativeTask<NativeStepTimes>;
  /** What {@link kernelBench} takes here. */
  kernels(): NativeKernelFacts;
  /** Fills matrices with random weights. Rejects with ERR_INVALID_ARG, ERR_OUT_OF_MEMORY or ERR_ABORTED. */
  kernelBench(options: NativeKernelBenchOptions): NativeTask<NativeKernelBench>;
}

export interface NativeStepTimes {
  readonly points: readonly NativeStepTime[];
  readonly threads: number;
}

export interface NativeStepTime {
  readonly tokens: number;
  readonly depth: number;
  readonly seconds: number;
  /** How much longer half of the steps took at least: 1 on a machine that does nothing else. */
  readonly unrest: number;
  readonly steps: number;
  /** All layers were computed, not a few of each kind. */
  readonly wholeModel: boolean;
}

export interface NativeKernelFacts {
  /** Upstream's in the order in which llama.cpp asks them, then ours, the fastest first, `scalar` last. */
  readonly names: readonly string[];
  readonly types: readonly { readonly name: string; readonly blockWeights: number; readonly blockBytes: number }[];
  /** CPU threads worth using: one per physical core. */
  readonly threads: number;
}

export interface NativeKernelBenchOptions {
  readonly type: string;
  readonly rows: number;
  readonly columns: number;
  readonly tokens: number;
  /** 0 = one matrix. */
  readonly experts: number;
  /** Experts that work on a token. */
  readonly used: number;
  /** Of the weights, that products go round. */
  readonly copies: number;
  readonly kernels: readonly string[];
}

/** One call at a time. */
export interface NativeKernelBench {
  /** Those of the kernels asked for that take the product. `bytes`: what one product reads of the weights, as they lie in memory. */
  readonly systems: readonly { readonly name: string; readonly ours: boolean; readonly bytes: number }[];
  /** Seconds of `products` products in one graph. */
  sample(system: number, threads: number, products: number): NativeTask<number>;
  error(system: number, threads: number): NativeTask<NativeProductError>;
  /** Frees the matrices, once a running task has ended. */
  dispose(): void;
}

/** How far results are from the file's weights times the activations as they are, in double precision. */
export interface NativeProductError {
  readonly outputs: number;
  readonly rms: number;
  readonly largest: number;
  /** Negative where our scalar kernels do not take the type. */
  readonly fromScalar: number;
}
