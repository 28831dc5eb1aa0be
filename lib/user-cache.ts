import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/** The user's folder for what programs can make again; undefined for a user without one, as in many containers. */
export function userCache(): string | undefined {
  const { LOCALAPPDATA, XDG_CACHE_HOME } = process.env;
  if (process.platform === 'win32' && LOCALAPPDATA) return LOCALAPPDATA;
  if (process.platform !== 'darwin' && XDG_CACHE_HOME && isAbsolute(XDG_CACHE_HOME)) return XDG_CACHE_HOME; // others are to be ignored, says its specification
  const home = homeFolder();
  return home === undefined ? undefined : process.platform === 'darwin' ? join(home, 'Library', 'Caches') : join(home, '.cache');
}

function homeFolder(): string | undefined {
  try {
    const home = homedir();
    return isAbsolute(home) ? home : undefined;
  } catch {
    return undefined; // no HOME, and the system does not know the user
  }
}
