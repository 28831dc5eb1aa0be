/**
 * What was measured on this machine and is true until the device or its driver changes.
 */
import { createHash, randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { userCache } from './user-cache.js';

function fileOf(kind: string, key: string): string {
  const folder = userCache();
  if (folder === undefined) throw new Error('this user has no folder for caches');
  return join(folder, 'ternion', 'measured', `${kind}-${createHash('sha256').update(key).digest('hex').slice(0, 32)}.json`);
}

/** A measurement's value; undefined where there is none, or none that can be read. The key says all that it depends on. */
export async function recall(kind: string, key: unknown): Promise<unknown> {
  const text = JSON.stringify(key);
  try {
    const entry = JSON.parse(await readOwn(fileOf(kind, text))) as { key?: unknown; value?: unknown };
    return JSON.stringify(entry.key) === text ? entry.value : undefined;
  } catch {
    return undefined; // measured again
  }
}

// Only what this user or root wrote: in a folder for all, anybody may have put a file, or a pipe that never ends.
async function readOwn(path: string): Promise<string> {
  const file = await open(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0));
  try {
    const { mode, uid } = await file.stat();
    // Elsewhere (Windows) modes say nothing of others.
    const own = process.getuid === undefined || ((uid === process.getuid() || uid === 0) && (mode & 0o002) === 0);
    if ((mode & constants.S_IFMT) !== constants.S_IFREG || !own) throw new Error(`${path} may be another user's`);
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

// Node's recursive mkdir never ends where a folder can neither be found nor made, as in /proc.
async function makeFolder(path: string): Promise<void> {
  const made = () => mkdir(path, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => (error.code === 'EEXIST' ? undefined : Promise.reject(error)));
  await made().catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT' || dirname(path) === path) throw error;
    await makeFolder(dirname(path));
    await made();
  });
}

/** Keeps a measurement, for other processes too. One that cannot be written is made again next time. */
export async function remember(kind: string, key: unknown, value: unknown): Promise<void> {
  let partial: string | undefined;
  try {
    const file = fileOf(kind, JSON.stringify(key));
    await makeFolder(dirname(file));
    partial = `${file}.${randomUUID()}`;
    await writeFile(partial, `${JSON.stringify({ key, value, date: new Date().toISOString() }, null, 1)}\n`, { mode: 0o600, flag: 'wx' });
    await rename(partial, file);
  } catch {
    if (partial !== undefined) await rm(partial, { force: true }).catch(() => undefined);
  }
}
