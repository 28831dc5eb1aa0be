/**
 * From a file to a {@link Model}.
 */
import { addon } from './addon.js';
import type { CacheOptions } from './cache.js';
import { defaultDevices, defaultFallback, needsGpu } from './devices.js';
import { TernionError, fromNative } from './errors.js';
import type { ExpertCacheOptions, Experts } from './experts.js';
import type { KvType } from './kv.js';
import { rememberLoadMs } from './load-time.js';
import { readLoadOptions } from './load-options.js';
import { Model } from './model.js';
import type { NativeDevice, NativeLoadOptions } from './native.js';
import { defaultContext, nativeLoadOptions, trainedContext } from './native-options.js';
import { read } from './options.js';
import { placementOf } from './placement.js';
import { followPlan } from './plan/follow.js';
import type { Plan } from './plan/plan.js';
import type { PackCacheOptions } from './packs.js';
import { abortable } from './task.js';
import { trace } from './trace.js';

/** Options of {@link loadModel}. */
export interface LoadOptions {
  /** Load as {@link plan} found, which has to fit still; in place of all options that a plan decides. */
  readonly plan?: Plan | undefined;
  /** Device ids, as {@link devices} lists them; `['cpu']` opens no GPU loader. Default: the first discrete GPU, else the first integrated one, else the CPU; `TERNION_DEVICES` in the environment replaces that choice. */
  readonly devices?: readonly string[] | undefined;
  /** Layers on the GPU; the rest stays on the CPU. Default `'all'`. */
  readonly gpuLayers?: number | 'all' | undefined;
  /** Where a mixture's experts go, on a GPU. Default `'gpu'`: with the rest of their layers. */
  readonly experts?: Experts | undefined;
  /** Keep experts in recent use in device memory, of those that `experts` puts into the CPU's. Default: none. */
  readonly expertCache?: ExpertCacheOptions | undefined;
  /** Count which experts tokens are routed to, for {@link Model.experts}. An expert cache always does. Default false. */
  readonly countExperts?: boolean | undefined;
  /** Tokens of the longest conversation; `'trained'` is the model's training context. Default: 4096, or the training context if that is shorter. */
  readonly context?: number | 'trained' | undefined;
  /** Sessions that are decoded at once, 1 to 254; any number may be open, and take turns. Default 1. */
  readonly sequences?: number | undefined;
  /** Tokens that the KV cache holds, all sessions' together, shared ones once; at least `context`. Default `context * sequences`. */
  readonly kvTokens?: number | undefined;
  /**
   * Sessions beside those that are decoded that may keep their cells, forks and primed prefixes included. Default: up to 254 in all;
   * as many as `sequences` for recurrent and sliding-window models, where each costs memory (`placement.devices[].kvBytes`).
   */
  readonly spareSequences?: number | undefined;
  /** Where state goes that has to leave the KV cache. */
  readonly cache?: CacheOptions | undefined;
  /** CPU threads. Default: one per physical core that the process may use. */
  readonly threads?: number | undefined;
  /**
   * Tokens of one physical batch, which a step computes at most: a larger one may prefill faster, takes more memory (`computeBytes`) and
   * lets a cancel wait longer. At least `sequences`. Default 512. There is no logical batch beside it.
   */
  readonly ubatch?: number | undefined;
  /**
   * Attention as one operation instead of several. `'auto'`: where the devices can; true refuses those that cannot
   * (ERR_MODEL_UNSUPPORTED); false takes no quantised values in the KV cache. Default `'auto'`.
   */
  readonly flashAttention?: 'auto' | boolean | undefined;
  /** Type of the KV cache, or of its keys and values. Default `'f16'`. */
  readonly kv?: KvType | { readonly k: KvType; readonly v: KvType } | undefined;
  /**
   * Let the CPU compute what a GPU cannot: `'operations'` those that the GPU refuses, `true` also layers whose weights are of a type that it does
   * not compute with. `placement.refused` lists them. Default false, an error that lists them; `'operations'` where no device was named.
   */
  readonly allowFallback?: boolean | 'operations' | undefined;
  /** Map the file instead of reading it, where the device allows it. Default true. */
  readonly mmap?: boolean | undefined;
  /**
   * Keep weights that are packed for kernels of ours, so that later loads map them instead of packing again. Default true; false
   * neither reads nor writes packs.
   */
  readonly packCache?: boolean | PackCacheOptions | undefined;
  /**
   * Milliseconds after its last request until the model gives its memory back; the next request loads it again, see {@link Model.unload}. 0: at once.
   * Default: never. The time does not keep the process alive.
   */
  readonly keepAlive?: number | undefined;
  /** Called with the fraction that is loaded, 0 to 1. */
  readonly onProgress?: ((fraction: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Loads a GGUF model. The event loop stays free: loading has a thread of its own.
 *
 * @throws ERR_INVALID_ARG at once; rejects with ERR_MODEL_NOT_FOUND, ERR_MODEL_INVALID, ERR_MODEL_UNSUPPORTED,
 * ERR_DEVICE_NOT_FOUND, ERR_PLAN_DOES_NOT_FIT, ERR_OUT_OF_MEMORY or ERR_ABORTED. A device that was named and cannot take the model is an
 * error, never a reason to use the CPU.
 * @example
 * ```ts
 * await using model = await loadModel('model.gguf', { context: 8192 });
 * ```
 */
export function loadModel(path: string, options: LoadOptions = {}): Promise<Model> {
  return load(read.path('loadModel', 'path', path), readLoadOptions(options));
}

async function load(path: string, options: LoadOptions): Promise<Model> {
  const started = performance.now();
  const { signal, onProgress } = options;
  const named = options.plan?.devices ?? options.devices;
  let used: readonly string[] = named ?? [];
  try {
    refuseIfAborted(signal);
    const native = addon();
    const setting = process.env['TERNION_DEVICES'];
    const known = (await native.devices(needsGpu(named, setting))).devices;
    if (named === undefined) used = defaultDevices(known, setting);
    refuseIfAborted(signal);
    const allowFallback = options.allowFallback ?? defaultFallback(named, setting);
    const settings = await (options.plan === undefined ? unplanned(path, { ...options, allowFallback }, used, known) : followPlan(path, options.plan, options, known));
    refuseIfAborted(signal);
    const loaded = await abortable(signal, () => native.load(settings, onProgress ?? null));
    const ms = performance.now() - started;
    const again = { plan: options.plan, mmap: options.mmap, packCache: options.packCache, cache: options.cache, countExperts: options.countExperts };
    const model = new Model(path, {
      native: loaded,
      devices: used,
      loadMs: ms,
      keepAlive: options.keepAlive,
      place: (placement) => placementOf(placement, options.plan, known),
      // As before, whatever is free by now; a plan is laid out anew, so that it fits still or says what is missing.
      load: async () => native.load({ ...(again.plan === undefined ? settings : await followPlan(path, again.plan, again, (await native.devices(needsGpu(named, setting))).devices)), fingerprint: loaded.fingerprint }, null),
    });
    trace('load', () => ({ path, devices: used, ms, placement: model.placement }));
    void rememberLoadMs(path, used, ms);
    return model;
  } catch (failure) {
    const error = fromNative(failure, signal?.aborted ? { cause: signal.reason } : {});
    trace('load', () => ({ path, devices: used, ms: performance.now() - started, error: error.code }));
    throw error;
  }
}

async function unplanned(path: string, options: LoadOptions, used: readonly string[], known: readonly NativeDevice[]): Promise<NativeLoadOptions> {
  const context = options.context ?? Math.min((await trainedContext(path)) ?? defaultContext, defaultContext);
  return nativeLoadOptions(path, options, used.filter((id) => id !== 'cpu'), known, context === 'trained' ? 0 : context);
}

function refuseIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new TernionError('ERR_ABORTED', 'loading was aborted', { cause: signal.reason });
}
