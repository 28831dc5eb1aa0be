/**
 * Where the state of conversations is kept: cells of the KV cache, then host memory, then disk.
 */
import { join } from 'node:path';
import type { NativeDevice, NativeLoadOptions } from './native.js';
import type { NativeCache } from './native-session.js';
import { userCache } from './user-cache.js';
import { refuse } from './validate.js';

/** What {@link LoadOptions.cache} chooses. Budgets are in bytes and are never exceeded; what no tier has room for is prefilled again. */
export interface CacheOptions {
  /**
   * Host memory for state of sessions that gave up their cells. Default: an eighth of the free memory, at most 2 GiB; 0 where the
   * GPU shares its memory with the CPU.
   */
  readonly ramBytes?: number | undefined;
  /** Disk for state that memory has no room for, per loaded model. Default 0: none. */
  readonly diskBytes?: number | undefined;
  /** Where. Several processes may name the same folder. Default: `ternion/state` in the user's cache folder. */
  readonly diskDir?: string | undefined;
  /** Host memory for states to go back to, of recurrent and sliding-window models. Default 256 MiB. */
  readonly checkpointBytes?: number | undefined;
}

/** What a model's cache holds at the moment, and what it did so far. */
export type CacheState = NativeCache;

const mebibyte = 2 ** 20;

/** @internal The addon's part of {@link CacheOptions}. `host`: the CPU's memory; `used`: the GPUs that will compute. */
export function cacheBudgets(
  options: CacheOptions = {},
  host: Pick<NativeDevice, 'freeBytes'>,
  used: readonly Pick<NativeDevice, 'uma'>[],
): Pick<NativeLoadOptions, 'ramBytes' | 'diskBytes' | 'diskFolder' | 'checkpointBytes'> {
  const users = userCache();
  const diskFolder = options.diskDir ?? (users === undefined ? '' : join(users, 'ternion', 'state'));
  if ((options.diskBytes ?? 0) > 0 && diskFolder === '') {
    refuse('loadModel', 'options.cache.diskDir', 'options.cache.diskDir must be given with diskBytes, because this user has no home folder');
  }
  const shared = used.some((device) => device.uma);
  return {
    ramBytes: options.ramBytes ?? (shared ? 0 : Math.min(Math.floor(host.freeBytes / 8), 2048 * mebibyte)),
    diskBytes: options.diskBytes ?? 0,
    diskFolder,
    checkpointBytes: options.checkpointBytes ?? 256 * mebibyte,
  };
}
