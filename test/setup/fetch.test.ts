import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { ensureSource, isFresh, places } from '../../vendor/fetch.mjs';

// A pinned package of our own, as small as can be: a git bundle in a tarball, in the cache as if downloaded earlier.
let root: string;
let vendor: string;
let tarball: string;

const git = (cwd: string, ...args: string[]) =>
  execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.invalid', ...args], { cwd, encoding: 'utf8' }).trim();

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'ternion-fetch-'));
  vendor = join(root, 'vendor');
  const upstream = join(root, 'upstream');
  mkdirSync(join(upstream, 'ggml', 'src'), { recursive: true });
  writeFileSync(join(upstream, 'ggml', 'src', 'a.c'), 'int a;\n');
  writeFileSync(join(upstream, 'ggml', 'src', 'b.c'), 'int b;\n');
  writeFileSync(join(upstream, 'unused.c'), '');
  git(upstream, 'init', '-q');
  git(upstream, 'add', '.');
  git(upstream, 'commit', '-qm', 'one');

  mkdirSync(join(root, 'package'));
  git(upstream, 'bundle', 'create', '-q', join(root, 'package', 'source.bundle'), '--all');
  tarball = join(root, 'cache', 'ternion', 'pinned-1.0.0.tgz');
  mkdirSync(join(root, 'cache', 'ternion'), { recursive: true });
  execFileSync('tar', ['-czf', tarball, '-C', root, 'package/source.bundle']);

  mkdirSync(join(vendor, 'patches'), { recursive: true });
  writeLock({ integrity: integrityOf(tarball), commit: git(upstream, 'rev-parse', 'HEAD') });
  vi.stubEnv('XDG_CACHE_HOME', join(root, 'cache'));
  vi.stubEnv('npm_config_offline', 'true');
  vi.stubEnv('npm_config_cache', join(root, 'npm'));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true, force: true });
});

function integrityOf(file: string) {
  return `sha512-${createHash('sha512').update(readFileSync(file)).digest('base64')}`;
}

function writeLock({ integrity, commit }: { integrity: string; commit: string }) {
  const source = { package: 'pinned@1.0.0', integrity, bundle: 'source.bundle' };
  const lock = { name: 'llama.cpp', version: '1.0.0', commit, source, paths: ['ggml/src/*.c'] };
  writeFileSync(join(vendor, 'llama.lock.json'), JSON.stringify(lock));
}

function writePatch(find: string) {
  const header = 'What: a\nWhy: b\nUpstream: c\nUntil: d\n';
  writeFileSync(join(vendor, 'patches', '0001-a.edit'), `${header}@@ file ggml/src/a.c\n@@ find\n${find}\n@@ replace\nlong`);
}

const at = () => places(vendor, '');
const left = () => readdirSync(vendor).sort();

test('the subset is fetched from the cache, without a network', () => {
  expect(ensureSource(at())).toEqual({ path: join(vendor, 'llama'), fetched: true });
  expect(readdirSync(join(vendor, 'llama'))).toEqual(['.ternion-stamp', 'ggml']);
  expect(ensureSource(at()).fetched).toBe(false);
});

test('a new patch makes the tree stale, and touches only the file that it changes', async () => {
  ensureSource(at());
  const time = (file: string) => statSync(join(vendor, 'llama', 'ggml', 'src', file)).mtimeMs;
  const before = { a: time('a.c'), b: time('b.c') };
  await new Promise((resolve) => setTimeout(resolve, 20));
  writePatch('int');
  expect(isFresh(at())).toBe(false);
  ensureSource(at());
  expect(readFileSync(join(vendor, 'llama', 'ggml', 'src', 'a.c'), 'utf8')).toBe('long a;\n');
  expect(time('a.c')).toBeGreaterThan(before.a);
  expect(time('b.c')).toBeCloseTo(before.b, 0);
});

describe('leaves nothing half-written', () => {
  test('when an anchor is gone', () => {
    writePatch('nowhere');
    expect(() => ensureSource(at())).toThrow("anchor not found: 'nowhere'");
    expect(left()).toEqual(['llama.lock.json', 'patches']);
  });

  test('when an anchor goes while a good tree stands: the tree stays', () => {
    ensureSource(at());
    writePatch('nowhere');
    expect(() => ensureSource(at())).toThrow('anchor not found');
    expect(existsSync(join(vendor, 'llama', 'ggml', 'src', 'a.c'))).toBe(true);
    expect(left()).toEqual(['llama', 'llama.lock.json', 'patches']);
  });

  test('when there is neither network nor cache', () => {
    rmSync(tarball);
    expect(() => ensureSource(at())).toThrow(/cannot download pinned@1\.0\.0 and no copy is cached/);
    expect(left()).toEqual(['llama.lock.json', 'patches']);
  });

  test('when the commit is not in the bundle', () => {
    writeLock({ integrity: integrityOf(tarball), commit: '0'.repeat(40) });
    expect(() => ensureSource(at())).toThrow('does not hold the pinned commit');
    expect(left()).toEqual(['llama.lock.json', 'patches']);
  });
});

test('a download with the wrong hash is refused and not kept', () => {
  const folder = join(root, 'bin');
  mkdirSync(folder);
  const saved = join(root, 'saved.tgz');
  cpSync(tarball, saved);
  // Stands in for npm: "downloads" the tarball into the folder after --pack-destination.
  writeFileSync(join(folder, 'npm'), `#!/bin/sh\ncp '${saved}' "$4/pinned-1.0.0.tgz"\n`, { mode: 0o755 });
  vi.stubEnv('PATH', `${folder}:${process.env['PATH'] ?? ''}`);
  const commit = (JSON.parse(readFileSync(join(vendor, 'llama.lock.json'), 'utf8')) as { commit: string }).commit;
  writeLock({ integrity: 'sha512-other', commit });
  expect(() => ensureSource(at())).toThrow(/wrong hash: found sha512-.*, expected sha512-other/);
  expect(existsSync(tarball)).toBe(false);
  expect(left()).toEqual(['llama.lock.json', 'patches']);
});

test('a missing git is named with its package', () => {
  vi.stubEnv('PATH', join(root, 'nowhere'));
  expect(() => ensureSource(at())).toThrow('git was not found on the PATH; install it (Debian package: git)');
});

test('a local checkout is copied, patched and left alone', () => {
  writePatch('int');
  const local = join(root, 'upstream');
  const place = places(vendor, local);
  expect(ensureSource(place).path).toBe(join(vendor, 'llama.local'));
  expect(readFileSync(join(vendor, 'llama.local', 'ggml', 'src', 'a.c'), 'utf8')).toBe('long a;\n');
  expect(readFileSync(join(local, 'ggml', 'src', 'a.c'), 'utf8')).toBe('int a;\n');
  expect(isFresh(place)).toBe(true);
  writeFileSync(join(local, 'ggml', 'src', 'b.c'), 'int bb;\n');
  expect(isFresh(place)).toBe(false);
});
