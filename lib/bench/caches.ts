/**
 * The sizes of this machine's caches, where the system tells them.
 */
import { readFileSync, readdirSync } from 'node:fs';

export interface Caches {
  /** Of the second level, of one core. */
  readonly l2Bytes: number;
  /** Of the last level, all of them together: several groups of cores may have one each. */
  readonly lastLevelBytes: number;
  /** False: the system does not tell, and these are guesses. */
  readonly known: boolean;
}

const guess: Caches = { l2Bytes: 512 * 1024, lastLevelBytes: 64 * 2 ** 20, known: false };

/** @param folder - Linux's description of the processors */
export function caches(folder = '/sys/devices/system/cpu'): Caches {
  try {
    const read = (path: string): string => readFileSync(`${folder}/${path}`, 'utf8').trim();
    const sizes = new Map<string, number>(); // by level and the processors that share it
    for (const cpu of readdirSync(folder).filter((name) => /^cpu\d+$/.test(name))) {
      for (const index of indexes(`${folder}/${cpu}/cache`)) {
        const at = `${cpu}/cache/${index}`;
        if (read(`${at}/type`) !== 'Instruction') sizes.set(`${read(`${at}/level`)}:${read(`${at}/shared_cpu_list`)}`, bytes(read(`${at}/size`)));
      }
    }
    const ofLevel = (level: number): number[] => [...sizes].filter(([key]) => key.startsWith(`${level}:`)).map(([, size]) => size);
    const levels = [...sizes.keys()].map((key) => Number.parseInt(key, 10));
    const l2Bytes = Math.min(...ofLevel(2));
    const lastLevelBytes = ofLevel(Math.max(...levels)).reduce((sum, size) => sum + size, 0);
    if (l2Bytes > 0 && Number.isFinite(l2Bytes) && lastLevelBytes >= l2Bytes) return { l2Bytes, lastLevelBytes, known: true };
  } catch {
    // No such folder: another system, or a container without it.
  }
  return guess;
}

function indexes(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => /^index\d+$/.test(name));
  } catch {
    return []; // a processor that is switched off
  }
}

function bytes(size: string): number {
  const [, digits, unit] = /^(\d+)([KMG]?)$/.exec(size) ?? [];
  return Number(digits) * { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 }[(unit ?? '') as '' | 'K' | 'M' | 'G'];
}
