#!/usr/bin/env node
// Makes vendor/llama: the pinned llama.cpp source, cut down to what we build, with our patches applied.
//
//   node vendor/fetch.mjs                      fetch if missing or stale
//   node vendor/fetch.mjs --check              exit 1 if missing or stale
//   node vendor/fetch.mjs --from-git URL TAG   move the pin (maintainers): checks the patches, writes the lock
//
// TERNION_LLAMA_SOURCE=<dir> takes a local checkout instead, into vendor/llama.local; <dir> is never written to.

import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { FetchError, PatchError } from './errors.mjs';
import { checkOut, cloneFromUrl, git } from './origin.mjs';
import { applyPatches, patchFiles, readPatches } from './patch.mjs';
import { copySubset, expandPaths, keepTimestamps, listFiles, swapIntoPlace } from './tree.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
const STAMP = '.ternion-stamp';

/** Where things are. Tests give other places. */
export function places(vendor = HERE, local = process.env.TERNION_LLAMA_SOURCE) {
  return {
    lockFile: join(vendor, 'llama.lock.json'),
    patchFolder: join(vendor, 'patches'),
    target: join(vendor, local ? 'llama.local' : 'llama'),
    local: local ? resolve(local) : undefined,
  };
}

/** What the tree is made from, as one string: when it changes the tree is stale. */
export function wantedStamp(at = places()) {
  const hash = createHash('sha256').update(readFileSync(at.lockFile));
  for (const file of patchFiles(at.patchFolder)) {
    hash.update(`${file}\0`).update(readFileSync(join(at.patchFolder, file)));
  }
  if (at.local) hash.update(localState(at));
  return hash.digest('hex');
}

export function isFresh(at = places()) {
  const stamp = join(at.target, STAMP);
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === wantedStamp(at);
}

/** Makes the tree unless it is fresh. Returns its path and whether anything was done. */
export function ensureSource(at = places()) {
  if (isFresh(at)) return { path: at.target, fetched: false };

  const lock = JSON.parse(readFileSync(at.lockFile, 'utf8'));
  const scratch = mkdtempSync(`${at.target}.new-`);
  try {
    const tree = join(scratch, 'tree');
    makeTree(lock, at, tree, scratch);
    writeFileSync(join(tree, STAMP), wantedStamp(at));
    keepTimestamps(at.target, tree);
    // Somebody else may have finished the same work meanwhile.
    if (!isFresh(at)) swapIntoPlace(tree, at.target);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return { path: at.target, fetched: true };
}

function makeTree(lock, at, tree, scratch) {
  const patches = readPatches(at.patchFolder);
  let source = at.local;
  if (!source) {
    source = join(scratch, 'checkout');
    checkOut(lock, source, scratch);
  } else if (!existsSync(join(source, 'ggml', 'src'))) {
    throw new FetchError(`TERNION_LLAMA_SOURCE: ${source} is not a llama.cpp checkout`);
  }
  copySubset(source, tree, lock.paths);
  applyPatches(patches, tree);
}

// A local checkout is under somebody's hands: sizes and times tell when to copy again.
function localState(at) {
  const { paths } = JSON.parse(readFileSync(at.lockFile, 'utf8'));
  const lines = [at.local];
  for (const path of expandPaths(at.local, paths)) {
    const full = join(at.local, path);
    const files = statSync(full).isDirectory() ? listFiles(full).map((file) => join(full, file)) : [full];
    for (const file of files) {
      const { size, mtimeMs } = statSync(file);
      lines.push(`${file} ${size} ${mtimeMs}`);
    }
  }
  return lines.join('\n');
}

/** Moves the pin to a tag of a git repository. The lock is written only if every patch still applies. */
export function movePin(url, tag, at = places(HERE, '')) {
  const lock = JSON.parse(readFileSync(at.lockFile, 'utf8'));
  const [commit] = git(['ls-remote', url, `refs/tags/${tag}^{}`, `refs/tags/${tag}`]).split('\n').sort(peeledFirst)[0].split('\t');
  if (!commit) throw new FetchError(`${url} has no tag ${tag}`);

  const moved = { ...lock, version: tag.replace(/^v/, ''), commit, source: { git: url, tag } };
  cloneFromUrl(moved);
  const scratch = mkdtempSync(`${at.target}.new-`);
  try {
    makeTree(moved, at, join(scratch, 'tree'), scratch);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  writeFileSync(at.lockFile, `${JSON.stringify(moved, null, 2)}\n`);
  return moved;
}

// An annotated tag is listed twice; the line ending in ^{} names the commit.
function peeledFirst(a, b) {
  return Number(b.endsWith('^{}')) - Number(a.endsWith('^{}'));
}

function main(args) {
  if (args[0] === '--from-git' && args.length === 3) {
    const { commit } = movePin(args[1], args[2]);
    console.log(`pinned ${args[2]} (${commit.slice(0, 12)}); all patches apply`);
  } else if (args[0] === '--check' && args.length === 1) {
    if (isFresh()) return 0;
    console.error('vendor/llama is missing or stale; run: node vendor/fetch.mjs');
    return 1;
  } else if (args.length === 0) {
    ensureSource();
  } else {
    console.error('usage: node vendor/fetch.mjs [--check | --from-git URL TAG]');
    return 2;
  }
  return 0;
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    process.exitCode = main(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof FetchError || error instanceof PatchError)) throw error;
    console.error(`vendor: ${error.message}`);
    process.exitCode = 1;
  }
}
