/**
 * What a plan is asked for.
 */
import type { Experts } from '../experts.js';
import type { LoadOptions } from '../load.js';

/** A context between bounds, as long as memory allows. */
export interface ContextRange {
  readonly min: number;
  /** Default: the trained context. */
  readonly max?: number | undefined;
}

/** Memory that a plan leaves alone. */
export interface ReserveOptions {
  /** Of the CPU's memory. Default 512 MiB. */
  readonly hostBytes?: number | undefined;
  /** Of each GPU's. Default 256 MiB. */
  readonly deviceBytes?: number | undefined;
}

/** Request of {@link plan}: the options of `loadModel` that decide where bytes go, each of which may be left open. */
export interface PlanRequest extends Pick<LoadOptions, 'devices' | 'sequences' | 'kvTokens' | 'spareSequences' | 'cache' | 'threads' | 'ubatch' | 'flashAttention' | 'packCache' | 'allowFallback' | 'signal'> {
  /** Layers on the GPU. Default `'all'`: a model that was split is slower than the fastest device alone, see `allowSplit`. */
  readonly gpuLayers?: LoadOptions['gpuLayers'];
  /** Tokens of the longest conversation; a range is maximised. Default as in `loadModel`. */
  readonly context?: LoadOptions['context'] | ContextRange;
  /**
   * Where a mixture's experts go, on a GPU. Default `'auto'`: with everything else on the GPU if they fit; else those of the first layers in
   * the CPU's memory, as few as possible. Not on a GPU that shares the CPU's memory, where that gains nothing.
   */
  readonly experts?: LoadOptions['experts'] | 'auto';
  /** `'auto'`: where experts do not all fit on the GPU, all of them in the CPU's memory, and what the GPU has left for those in recent use. Default: none. */
  readonly expertCache?: LoadOptions['expertCache'] | 'auto';
  /** `'auto'`: f16, or q8_0 where the context does not fit otherwise. Default `'f16'`. */
  readonly kv?: LoadOptions['kv'] | 'auto';
  /** Memory to leave alone. */
  readonly reserve?: ReserveOptions | undefined;
  /**
   * Measure how fast the model's steps are here, where it is not known; `'again'` in any case. Takes some seconds and memory like a few layers. What
   * was measured is kept in the user's cache folder, by model, settings, device and driver. Default false: {@link Plan.speed} is what is known.
   */
  readonly measure?: boolean | 'again' | undefined;
  /** Let a model that fits neither a GPU nor the CPU alone be split between both. Default false. */
  readonly allowSplit?: boolean | undefined;
}

/** How a model would be loaded. */
export interface PlanSettings {
  readonly devices: readonly string[];
  readonly gpuLayers: number | 'all';
  readonly experts: Experts;
  /** Of device memory, for experts in recent use; 0: none. */
  readonly expertCacheBytes: number;
  readonly context: number;
  readonly sequences: number;
  readonly kvTokens: number;
  readonly kv: { readonly k: string; readonly v: string };
  readonly allowFallback: boolean | 'operations';
  /** Tokens of one physical batch. */
  readonly ubatch: number;
  /** Attention is one operation. */
  readonly flashAttention: boolean;
  /** As it was asked for; the load asks the same, since values lie otherwise where it is said not to be than where it turns out not to be. */
  readonly flashAttentionAsked: boolean | 'auto';
}
