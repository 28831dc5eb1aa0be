/**
 * What stands in a GGUF file's header.
 */
import { addon } from './addon.js';
import { fromNative } from './errors.js';
import type { NativeInspection } from './native.js';
import { read } from './options.js';

/** Metadata and tensor table of a file. */
export type Inspection = NativeInspection;

/**
 * Reads metadata and tensor table, never weights.
 *
 * @throws rejects with ERR_MODEL_NOT_FOUND or ERR_MODEL_INVALID.
 */
export async function inspect(path: string): Promise<Inspection> {
  try {
    return await addon().inspect(read.path('inspect', 'path', path));
  } catch (failure) {
    throw fromNative(failure);
  }
}
