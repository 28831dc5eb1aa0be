// Folder work shared by the fetch steps: subsets, timestamps, swapping a finished tree into place.

import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';

import { FetchError } from './errors.mjs';

/** Expands the lock's paths: plain files and folders, with `*` allowed in the last part. */
export function expandPaths(root, paths) {
  return paths.flatMap((path) => {
    const folder = dirname(path);
    const last = path.slice(folder === '.' ? 0 : folder.length + 1);
    if (!last.includes('*')) return [path];
    const pattern = new RegExp(`^${last.split('*').map(escapeRegExp).join('.*')}$`);
    if (!existsSync(join(root, folder))) throw new FetchError(`${folder} is missing from the llama.cpp source`);
    return readdirSync(join(root, folder))
      .filter((entry) => pattern.test(entry))
      .map((entry) => join(folder, entry));
  });
}

/** Copies the subset named by `paths`. Throws with the path when something that we build from is not there. */
export function copySubset(from, to, paths) {
  for (const path of expandPaths(from, paths)) {
    if (!existsSync(join(from, path))) throw new FetchError(`${path} is missing from the llama.cpp source`);
    mkdirSync(dirname(join(to, path)), { recursive: true });
    cpSync(join(from, path), join(to, path), { recursive: true, preserveTimestamps: true });
  }
}

/** All files below `root`, as paths relative to it. */
export function listFiles(root) {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(relative(root, entry.parentPath ?? entry.path), entry.name));
}

/** Gives files that are the same in both trees the old tree's times, so that a new patch rebuilds only what it touches. */
export function keepTimestamps(oldRoot, newRoot) {
  if (!existsSync(oldRoot)) return;
  for (const path of listFiles(newRoot)) {
    const before = lstatSync(join(oldRoot, path), { throwIfNoEntry: false });
    if (!before?.isFile() || before.size !== statSync(join(newRoot, path)).size) continue;
    if (!readFileSync(join(oldRoot, path)).equals(readFileSync(join(newRoot, path)))) continue;
    utimesSync(join(newRoot, path), before.atime, before.mtime);
  }
}

/** Puts a finished tree in the place of `target`. Until then nobody sees it; afterwards nobody sees the old one. */
export function swapIntoPlace(fresh, target) {
  const old = `${target}.old-${process.pid}`;
  if (existsSync(target)) renameSync(target, old);
  renameSync(fresh, target);
  rmSync(old, { recursive: true, force: true });
}

function escapeRegExp(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
