/**
 * Finds and loads the native addon, once, at first use: importing ternion touches no native code.
 */
import { statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { candidates, choiceOf, packageRoot } from './addon/candidates.js';
import type { Where } from './addon/candidates.js';
import { elfProblem } from './addon/elf.js';
import { thisPlatform } from './addon/platform.js';
import type { Platform } from './addon/platform.js';
import { advice, failure, search } from './addon/search.js';
import type { Search, Tried } from './addon/search.js';
import { attachLog } from './log.js';
import type { Addon } from './native.js';

let loaded: Addon | undefined;
let build = '';

/**
 * The addon.
 *
 * @throws ERR_BINARY_NOT_FOUND or ERR_BINARY_INCOMPATIBLE, with every path that was tried, why it was not loaded, and what to do.
 */
export function addon(): Addon {
  if (loaded !== undefined) return loaded;
  const { where, result } = find();
  if (result.loaded === undefined) throw failure(where, result);
  const { path, module } = result.loaded;
  const { size, mtimeMs } = statSync(path);
  build = `${size} ${mtimeMs}`;
  attachLog(module);
  // process.exit() on the main thread runs no native cleanup hooks, but does run C++'s static destructors, under the
  // feet of an engine that is still computing. An uncaught error passes here, too.
  const { stop } = module as { stop: (this: void) => void };
  process.once('exit', stop);
  loaded = module;
  return loaded;
}

// Node's require opens a file once, however often this is called.
function find(): { readonly where: Where; readonly result: Search<Addon> } {
  const require = createRequire(import.meta.url);
  const where = { root: packageRoot(), machine: thisPlatform(), choice: choiceOf(process.env) };
  return { where, result: search(candidates(where), (path) => open(path, require)) };
}

function open(path: string, require: NodeJS.Require): Addon {
  const problem = process.platform === 'linux' ? elfProblem(path, process.arch) : undefined;
  if (problem !== undefined) throw new Error(problem);
  const module = require(path) as Partial<Addon>;
  if (typeof module.stop !== 'function' || typeof module.reportedMemory !== 'function') throw new Error('it was built for another version of ternion');
  return module as Addon;
}

/** How the addon was looked for, for `ternion doctor`. */
export interface AddonReport {
  readonly machine: Platform;
  readonly tried: readonly Tried[];
  readonly loaded: string | undefined;
  /** What to do, if nothing could be loaded. */
  readonly advice: readonly string[];
}

/** Looks anew. Never throws. */
export function addonReport(): AddonReport {
  const { where, result } = find();
  const { tried, loaded: found } = result;
  return { machine: where.machine, tried, loaded: found?.path, advice: found === undefined ? advice(where, tried) : [] };
}

/** Tells one build of the addon from another. */
export function addonBuild(): string {
  addon();
  return build;
}

/** Versions and build facts of the addon: llama.cpp's build, compiler, CPU features in use, backends compiled in. */
export function buildInfo(): Readonly<Record<string, string | number | boolean | readonly string[]>> {
  return addon().buildInfo();
}
