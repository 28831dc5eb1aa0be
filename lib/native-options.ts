/**
 * From what a user asks for to what the addon takes: the same for a load and for a dry run of it.
 */
import { addon } from './addon.js';
import { cacheBudgets } from './cache.js';
import { isTernionError } from './errors.js';
import { tensorOverrides } from './experts.js';
import type { LoadOptions } from './load.js';
import type { NativeDevice, NativeInspection, NativeLoadOptions } from './native.js';
import { packCache } from './packs.js';

/** What decides where bytes go; the part of `loadModel`'s options that a plan has too. */
export type Settings = Pick<LoadOptions, 'gpuLayers' | 'experts' | 'expertCache' | 'countExperts' | 'sequences' | 'kvTokens' | 'spareSequences' | 'cache' | 'threads' | 'ubatch' | 'flashAttention' | 'kv' | 'mmap' | 'packCache' | 'allowFallback'>;

/** `gpus`: the ids that were chosen; `known`: the devices here, the CPU among them; `context`: in tokens, 0 = the trained one. */
export function nativeLoadOptions(path: string, options: Settings, gpus: readonly string[], known: readonly NativeDevice[], context: number): NativeLoadOptions {
  const kv = options.kv ?? 'f16';
  const packs = packCache(options.packCache);
  const host = known.find((device) => device.id === 'cpu') ?? { freeBytes: 0 };
  return {
    path,
    devices: gpus,
    gpuLayers: options.gpuLayers === undefined || options.gpuLayers === 'all' ? -1 : options.gpuLayers,
    overrides: tensorOverrides(options.experts),
    context,
    sequences: options.sequences ?? 1,
    kvTokens: options.kvTokens ?? 0,
    spareSequences: options.spareSequences ?? -1,
    ...cacheBudgets(options.cache, host, known.filter((device) => gpus.includes(device.id))),
    expertCacheBytes: options.expertCache?.deviceBytes ?? 0,
    countExperts: options.countExperts ?? false,
    threads: options.threads ?? 0,
    ubatch: options.ubatch ?? 0,
    flashAttention: typeof options.flashAttention !== 'boolean' ? 'auto' : options.flashAttention ? 'yes' : 'no',
    kvK: typeof kv === 'string' ? kv : kv.k,
    kvV: typeof kv === 'string' ? kv : kv.v,
    allowRefusedWeights: options.allowFallback === true,
    allowRefusedOperations: options.allowFallback === true || options.allowFallback === 'operations',
    fingerprint: '',
    mmap: options.mmap ?? true,
    kernels: process.env['TERNION_KERNEL'] ?? '',
    packFolder: packs.folder,
    packBytes: packs.maxBytes,
    packVerify: packs.verify,
  };
}

/** Tokens of a conversation when nobody says: 4096, or the training context if that is shorter. */
export const defaultContext = 4096;

/** The context that a file's model was trained with; undefined where the file does not say, or cannot be read, which loading tells better. */
export async function trainedContext(path: string): Promise<number | undefined> {
  try {
    return trainedContextIn(await addon().inspect(path));
  } catch (failure) {
    if (isTernionError(failure)) throw failure;
    return undefined;
  }
}

export function trainedContextIn({ metadata }: Pick<NativeInspection, 'metadata'>): number | undefined {
  const trained = metadata.find((entry) => entry.key.endsWith('.context_length'))?.value;
  return typeof trained === 'number' && trained > 0 ? trained : undefined;
}
