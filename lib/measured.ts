/**
 * What was measured on this machine and is true until the device or its driver changes.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { userCache } from './user-cache.js';

const fileOf = (kind: string, key: string) => join(userCache(), 'ternion', 'measured', `${kind}-${createHash('sha256').update(key).digest('hex').slice(0, 32)}.json`);

/** A measurement's value; undefined where there is none, or none that can be read. The key says all that it depends on. */
export async function recall(kind: string, key: unknown): Promise<unknown> {
  const text = JSON.stringify(key);
  try {
    const entry = JSON.parse(await readFile(fileOf(kind, text), 'utf8')) as { key?: unknown; value?: unknown };
    return JSON.stringify(entry.key) === text ? entry.value : undefined;
  } catch {
    return undefined; // measured again
  }
}

/** Keeps a measurement, for other processes too. One that cannot be written is made again next time. */
export async function remember(kind: string, key: unknown, value: unknown): Promise<void> {
  const file = fileOf(kind, JSON.stringify(key));
  const partial = `${file}.${randomUUID()}`;
  try {
    await mkdir(join(file, '..'), { recursive: true });
    await writeFile(partial, `${JSON.stringify({ key, value, date: new Date().toISOString() }, null, 1)}\n`);
    await rename(partial, file);
  } catch {
    await rm(partial, { force: true }).catch(() => undefined);
  }
}
