/**
 * How long a file took to load, for those who ask before they load it again.
 */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { recall, remember } from './measured.js';

async function keyOf(path: string, devices: readonly string[]) {
  const { size, mtimeMs } = await stat(path);
  return { path: resolve(path), size, mtimeMs, devices };
}

/** Milliseconds that the last load on these devices took; undefined if there was none of the file as it is. */
export async function recallLoadMs(path: string, devices: readonly string[]): Promise<number | undefined> {
  const ms = await keyOf(path, devices).then((key) => recall('load', key)).catch(() => undefined);
  return typeof ms === 'number' && ms > 0 ? ms : undefined;
}

/** A time that is much like the last is not written again. */
export async function rememberLoadMs(path: string, devices: readonly string[], ms: number): Promise<void> {
  const before = await recallLoadMs(path, devices);
  if (before !== undefined && Math.abs(before - ms) < 0.2 * before) return;
  await keyOf(path, devices).then((key) => remember('load', key, ms)).catch(() => {}); // the file went meanwhile
}
