/**
 * Where packed weights are kept between loads.
 */
import { homedir } from 'node:os';
import { join } from 'node:path';

/** What {@link LoadOptions.packCache} chooses. */
export interface PackCacheOptions {
  /** Default: `ternion/packs` in the user's cache folder. */
  readonly folder?: string | undefined;
  /** Of all packs together; those used longest ago make room for new ones. Default 32 GiB. */
  readonly maxBytes?: number | undefined;
}

const defaultMaxBytes = 32 * 2 ** 30;

/** `folder` is empty where packs are not kept. `TERNION_PACK_CACHE` in the environment (a folder, or `off`) replaces the default. */
export function packCache(option: boolean | PackCacheOptions | undefined): { folder: string; maxBytes: number } {
  const setting = process.env['TERNION_PACK_CACHE'];
  if (option === false || (setting === 'off' && (option === undefined || option === true))) return { folder: '', maxBytes: 0 };
  const { folder, maxBytes } = typeof option === 'object' ? option : {};
  return { folder: folder ?? (setting !== undefined && setting !== '' && setting !== 'off' ? setting : join(userCache(), 'ternion', 'packs')), maxBytes: maxBytes ?? defaultMaxBytes };
}

function userCache(): string {
  const { LOCALAPPDATA, XDG_CACHE_HOME } = process.env;
  if (process.platform === 'win32' && LOCALAPPDATA) return LOCALAPPDATA;
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Caches');
  return XDG_CACHE_HOME ? XDG_CACHE_HOME : join(homedir(), '.cache');
}
