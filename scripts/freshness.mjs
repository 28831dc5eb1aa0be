// Tells whether something has to be made again: a stamp holds the hash of all it was made from. Contents are hashed
// rather than times compared, so that a checkout or a copied folder does not rebuild for nothing.

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { ROOT, WORK } from './run.mjs';

/**
 * Hash of files and folders (missing ones count as empty) and of further strings.
 * @param {string[]} paths
 * @param {string[]} [more]
 */
export function hashInputs(paths, more = [], skip = () => false) {
  const hash = createHash('sha256');
  for (const path of paths) addPath(hash, path, skip);
  for (const text of more) hash.update(`\0${text}`);
  return hash.digest('hex');
}

function addPath(hash, path, skip) {
  const full = join(ROOT, path);
  if (skip(path) || !existsSync(full)) return;
  if (statSync(full).isDirectory()) {
    for (const entry of readdirSync(full).sort()) addPath(hash, `${path}/${entry}`, skip);
  } else {
    hash.update(`\0${path}\0`).update(readFileSync(full));
  }
}

/** Whether `product` exists and its stamp says that it was made from `inputs`. */
export function isFresh(name, inputs, product) {
  const stamp = join(WORK, `${name}.stamp`);
  return existsSync(join(ROOT, product)) && existsSync(stamp) && readFileSync(stamp, 'utf8') === inputs;
}

export function writeStamp(name, inputs) {
  const stamp = join(WORK, `${name}.stamp`);
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, inputs);
}
