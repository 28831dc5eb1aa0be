import { homedir } from 'node:os';
import { join } from 'node:path';

/** The user's folder for what programs can make again. */
export function userCache(): string {
  const { LOCALAPPDATA, XDG_CACHE_HOME } = process.env;
  if (process.platform === 'win32' && LOCALAPPDATA) return LOCALAPPDATA;
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Caches');
  return XDG_CACHE_HOME ? XDG_CACHE_HOME : join(homedir(), '.cache');
}
