/**
 * Finds and loads the native addon, once, at first use: importing ternion touches no native code.
 */
import { statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { TernionError } from './errors.js';
import { attachLog } from './log.js';
import type { Addon } from './native.js';

const require = createRequire(import.meta.url);
const root = fileURLToPath(new URL('..', import.meta.url));

let loaded: Addon | undefined;
let build = '';

/**
 * The addon.
 *
 * @throws ERR_BINARY_NOT_FOUND or ERR_BINARY_INCOMPATIBLE, with what to do.
 */
export function addon(): Addon {
  if (loaded !== undefined) return loaded;
  const find = require('node-gyp-build') as ((dir: string) => unknown) & { resolve(dir: string): string };
  let path: string;
  try {
    path = find.resolve(root);
  } catch (cause) {
    throw new TernionError(
      'ERR_BINARY_NOT_FOUND',
      `no native addon for ${process.platform}-${process.arch}; looked in build/Release and prebuilds of ${root}; build it there with \`npm run build\``,
      { details: { tried: [`${root}build/Release`, `${root}prebuilds`] }, cause },
    );
  }
  try {
    loaded = require(path) as Addon;
  } catch (cause) {
    throw new TernionError(
      'ERR_BINARY_INCOMPATIBLE',
      `${path} cannot be loaded here: ${cause instanceof Error ? cause.message : String(cause)}`,
      { details: { path }, cause },
    );
  }
  const { size, mtimeMs } = statSync(path);
  build = `${size} ${mtimeMs}`;
  attachLog(loaded);
  // process.exit() on the main thread runs no native cleanup hooks, but does run C++'s static destructors, under the
  // feet of an engine that is still computing. An uncaught error passes here, too.
  const { stop } = loaded as { stop: (this: void) => void };
  process.once('exit', stop);
  return loaded;
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
