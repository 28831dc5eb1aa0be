/**
 * Where an addon may be, best first, and what speaks against each before it is opened.
 */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Platform } from './platform.js';
import { unfitness, variantsOf } from './variants.js';

export interface Candidate {
  readonly path: string;
  /** `chosen`: by TERNION_ADDON; `source`: built on this machine; else the prebuild's variant. */
  readonly what: string;
  /** Why it is not opened; undefined if it is to be tried. */
  readonly problem: string | undefined;
  readonly exists: boolean;
}

/** What the environment may say of the search. */
export interface Choice {
  /** A file, and no other (TERNION_ADDON). */
  readonly addon?: string | undefined;
  /** A variant, whatever the CPU is (TERNION_PREBUILD). */
  readonly prebuild?: string | undefined;
}

export const choiceOf = ({ TERNION_ADDON, TERNION_PREBUILD }: NodeJS.ProcessEnv): Choice => ({ addon: TERNION_ADDON || undefined, prebuild: TERNION_PREBUILD || undefined });

/** Where the search takes place. */
export interface Where {
  /** The package's folder. */
  readonly root: string;
  readonly machine: Platform;
  readonly choice: Choice;
}

/** Everything that may be opened, in this order, or says why not. */
export function candidates({ root, machine, choice }: Where): readonly Candidate[] {
  const { addon, prebuild } = choice;
  if (addon !== undefined) return [candidate(resolve(addon), 'chosen', addon.endsWith('.node') ? undefined : 'an addon\'s name ends in .node')];
  const folder = join('prebuilds', `${machine.platform}-${machine.arch}`);
  const file = (name: string) => join(folder, `ternion.${name}.node`);
  return roots(root).flatMap((place) =>
    prebuild !== undefined
      ? [candidate(join(place, file(prebuild)), prebuild, undefined)]
      : [
          candidate(join(place, 'build', 'Release', 'ternion.node'), 'source', undefined),
          ...variantsOf(machine.arch).map((variant) => candidate(join(place, file(variant.name)), variant.name, unfitness(variant, machine))),
        ],
  );
}

function candidate(path: string, what: string, unfit: string | undefined): Candidate {
  const exists = existsSync(path);
  return { path, what, exists, problem: exists ? unfit : 'no such file' };
}

// The system's loader reads no archives: what is unpacked beside one comes first. Electron itself can unpack a single
// file of an archive, so that is tried, too.
function roots(root: string): string[] {
  const unpacked = root.replace(/\.asar(?=[/\\]|$)/, '.asar.unpacked');
  return unpacked === root ? [root] : [unpacked, root];
}

/**
 * The package's folder: where this file is from, else (in a bundle) where Node finds `ternion` from there, or from the working directory.
 */
export function packageRoot(from: string = import.meta.url): string {
  const own = fileURLToPath(new URL('../..', from));
  if (isPackage(own)) return own;
  for (const start of [from, join(process.cwd(), 'package.json')]) {
    try {
      return dirname(createRequire(start).resolve('ternion/package.json'));
    } catch {
      // not from there
    }
  }
  return own;
}

function isPackage(folder: string): boolean {
  try {
    return (JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name?: unknown }).name === 'ternion';
  } catch {
    return false;
  }
}
