/**
 * Where packed weights are kept between loads, and what is there.
 */
import { readdir, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { addon } from './addon.js';
import { TernionError } from './errors.js';
import { read } from './options.js';
import { abortable } from './task.js';
import { userCache } from './user-cache.js';

/** What {@link LoadOptions.packCache} chooses. */
export interface PackCacheOptions {
  /** Default: `ternion/packs` in the user's cache folder. */
  readonly folder?: string | undefined;
  /** Of all packs together; those used longest ago make room for new ones. Default 32 GiB. */
  readonly maxBytes?: number | undefined;
  /** Read all of a pack before it is used, and pack again if it is not what was written. Without it only head and table are checked. Default false. */
  readonly verify?: boolean | undefined;
}

/** A pack, as far as its name and its entry in the folder tell. */
export interface Pack {
  readonly path: string;
  /** Of the model, 32 hexadecimal digits. */
  readonly fingerprint: string;
  /** The kernels that it was packed for, as in {@link Placement.kernels}; `+way` follows where a way was named. */
  readonly kernels: string;
  readonly bytes: number;
  /** When a load used it last, or it was written; milliseconds since 1970. */
  readonly lastUsedMs: number;
}

/** The result of {@link verifyPack}. */
export interface PackVerification {
  /** `stale`: of another version of ternion, so no load will use it. `damaged`: not what was written, and replaced when its model is loaded. */
  readonly state: 'whole' | 'stale' | 'damaged';
  /** What is wrong, for people; empty for a whole pack. */
  readonly problem: string;
}

/** Options of {@link listPacks} and {@link clearPacks}. */
export interface PackFolderOptions {
  /** Default: where {@link loadModel} keeps packs, `TERNION_PACK_CACHE` in the environment or `ternion/packs` in the user's cache folder. */
  readonly folder?: string | undefined;
}

/** Options of {@link verifyPack}. */
export interface VerifyPackOptions {
  /** Called with the fraction that is read, 0 to 1. */
  readonly onProgress?: ((fraction: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The packs of a cache folder, those used last first. A folder that does not exist has none.
 *
 * @throws ERR_INVALID_ARG at once; rejects with ERR_IO.
 */
export function listPacks(options: PackFolderOptions = {}): Promise<readonly Pack[]> {
  return list(packCache(read.packFolderOptions('listPacks', options)).folder);
}

/**
 * Reads all of a pack and compares it with what was written. A load checks head and table only, unless {@link PackCacheOptions.verify} is set.
 *
 * @throws ERR_INVALID_ARG at once; rejects with ERR_IO for a file that cannot be read, ERR_ABORTED.
 */
export function verifyPack(path: string, options: VerifyPackOptions = {}): Promise<PackVerification> {
  const file = read.path('verifyPack', 'path', path);
  const { onProgress, signal } = read.verifyPackOptions(options);
  return abortable(signal, () => addon().verifyPack(file, onProgress ?? null));
}

/**
 * Removes all packs of a cache folder, and nothing else that is in it. Models that are loaded keep working.
 *
 * @returns what was removed.
 * @throws ERR_INVALID_ARG at once; rejects with ERR_IO.
 */
export function clearPacks(options: PackFolderOptions = {}): Promise<readonly Pack[]> {
  return clear(packCache(read.packFolderOptions('clearPacks', options)).folder);
}

async function clear(folder: string): Promise<readonly Pack[]> {
  const packs = await list(folder);
  const removed: Pack[] = [];
  for (const pack of packs) if ((await unlessGone(pack.path, unlink(pack.path).then(() => true))) === true) removed.push(pack);
  return removed;
}

const defaultMaxBytes = 32 * 2 ** 30;

/** `folder` is empty where packs are not kept. `TERNION_PACK_CACHE` in the environment (a folder, or `off`) replaces the default. */
export function packCache(option: boolean | PackCacheOptions | undefined): { folder: string; maxBytes: number; verify: boolean } {
  const setting = process.env['TERNION_PACK_CACHE'];
  if (option === false || (setting === 'off' && (option === undefined || option === true))) return { folder: '', maxBytes: 0, verify: false };
  const { folder, maxBytes, verify } = typeof option === 'object' ? option : {};
  const users = userCache();
  const fallback = setting !== undefined && setting !== '' && setting !== 'off' ? setting : users === undefined ? '' : join(users, 'ternion', 'packs');
  return { folder: folder ?? fallback, maxBytes: maxBytes ?? defaultMaxBytes, verify: verify ?? false };
}

/** As the engine names them: model, kernels, version of the layout. */
const packName = /^([0-9a-f]{32})-(.+)-\d+\.pack$/;

async function list(folder: string): Promise<readonly Pack[]> {
  const packs: Pack[] = [];
  if (folder === '') return packs;
  for (const name of (await unlessGone(folder, readdir(folder))) ?? []) {
    const [, fingerprint, kernels] = packName.exec(name) ?? [];
    if (fingerprint === undefined || kernels === undefined) continue;
    const path = join(folder, name);
    const status = await unlessGone(path, stat(path));
    if (status?.isFile()) packs.push({ path, fingerprint, kernels, bytes: status.size, lastUsedMs: Math.round(status.mtimeMs) });
  }
  return packs.sort((a, b) => b.lastUsedMs - a.lastUsedMs);
}

/** Another process may make room at any time: what is gone is undefined. */
async function unlessGone<T>(path: string, work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw new TernionError('ERR_IO', `the pack cache cannot be read or cleared: ${message}`, { details: { path }, cause });
  }
}
