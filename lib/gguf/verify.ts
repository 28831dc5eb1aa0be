/**
 * Reads every weight of a file.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { addon } from '../addon.js';
import { TernionError } from '../errors.js';
import type { NativeTensorHealth } from '../native.js';
import { bag, onProgress as progress, optional, read, signal as abortSignal } from '../options.js';
import { abortable } from '../task.js';
import { check } from '../validate.js';

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

const verifyOptions = bag<VerifyOptions>({ onProgress: optional(progress), signal: optional(abortSignal) });

/**
 * Checks every weight and scale for NaN and infinity, counts scales of zero, and hashes the file. Reads the file twice.
 *
 * @throws rejects with ERR_MODEL_NOT_FOUND, ERR_MODEL_INVALID (a truncated file too), ERR_IO, ERR_ABORTED.
 */
export async function verify(path: string, options: VerifyOptions = {}): Promise<Verification> {
  const file = read.path('verify', 'path', path);
  const { signal, onProgress } = check('verify', 'options', verifyOptions, options);
  const tensors = await abortable(signal, () => addon().verify(file, onProgress ?? null));
  return { sound: tensors.every(({ notFinite }) => notFinite === 0), tensors, sha256: await sha256(file, signal) };
}

async function sha256(file: string, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash('sha256');
  try {
    await pipeline(createReadStream(file), hash, { signal });
  } catch (cause) {
    if (signal?.aborted) throw new TernionError('ERR_ABORTED', 'the operation was aborted', { cause: signal.reason });
    throw new TernionError('ERR_IO', `${file}: ${(cause as Error).message}`, { details: { path: file }, cause });
  }
  return hash.digest('hex');
}
