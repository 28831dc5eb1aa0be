/**
 * Reads every weight of a file.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { addon } from '../addon.js';
import { TernionError, fromNative } from '../errors.js';
import type { NativeTensorHealth } from '../native.js';
import { read } from '../options.js';

/** What was found in one tensor. A few zero scales are common in pruned models; a value that is not finite never is. */
export type TensorHealth = NativeTensorHealth;

/** The result of {@link verify}. */
export interface Verification {
  /** Of the tensors that were checked, no weight and no scale is NaN or infinite. */
  readonly sound: boolean;
  readonly tensors: readonly TensorHealth[];
  /** Of the whole file, in hexadecimal. */
  readonly sha256: string;
}

/** Options of {@link verify}. */
export interface VerifyOptions {
  /** Called with the fraction of the weights that is checked, 0 to 1. */
  readonly onProgress?: ((fraction: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Checks every weight and scale for NaN and infinity, counts scales of zero, and hashes the file. Reads the file twice.
 *
 * @throws rejects with ERR_MODEL_NOT_FOUND, ERR_MODEL_INVALID (a truncated file too), ERR_ABORTED.
 */
export async function verify(path: string, options: VerifyOptions = {}): Promise<Verification> {
  const { signal, onProgress } = options;
  const file = read.text('verify', 'path', path);
  if (signal?.aborted) throw new TernionError('ERR_ABORTED', 'verifying was aborted', { cause: signal.reason });
  let cancel = () => {};
  try {
    const task = addon().verify(file, onProgress ?? null);
    cancel = () => task.cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    const tensors = await task.promise;
    const hash = createHash('sha256');
    await pipeline(createReadStream(file), hash, { signal });
    return { sound: tensors.every(({ notFinite }) => notFinite === 0), tensors, sha256: hash.digest('hex') };
  } catch (failure) {
    if (signal?.aborted) throw new TernionError('ERR_ABORTED', 'verifying was aborted', { cause: signal.reason });
    throw fromNative(failure);
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}
