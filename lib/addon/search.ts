/**
 * Opens the first candidate that can be opened, and says what became of the others.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { TernionError } from '../errors.js';
import type { Candidate, Where } from './candidates.js';

export interface Tried {
  readonly path: string;
  /** As in {@link Candidate}. */
  readonly what: string;
  readonly verdict: 'loaded' | 'absent' | 'unfit' | 'failed' | 'not needed';
  /** Of `unfit` and `failed`: why. */
  readonly reason: string;
}

export interface Search<T> {
  readonly loaded: { readonly path: string; readonly module: T } | undefined;
  readonly tried: readonly Tried[];
  /** What the system's loader said of the first file that it refused. */
  readonly cause: unknown;
}

export function search<T>(list: readonly Candidate[], open: (path: string) => T): Search<T> {
  let loaded: Search<T>['loaded'];
  let cause: unknown;
  const tried = list.map(({ path, what, exists, problem }): Tried => {
    if (!exists) return { path, what, verdict: 'absent', reason: '' };
    if (problem !== undefined) return { path, what, verdict: 'unfit', reason: problem };
    if (loaded !== undefined) return { path, what, verdict: 'not needed', reason: '' };
    try {
      loaded = { path, module: open(path) };
      return { path, what, verdict: 'loaded', reason: '' };
    } catch (error) {
      cause ??= error;
      return { path, what, verdict: 'failed', reason: (error instanceof Error ? error.message : String(error)).trim().split('\n')[0]! };
    }
  });
  return { loaded, tried, cause };
}

/** One line of a report. */
export const inWords = ({ verdict, reason }: Tried): string => (verdict === 'absent' ? 'no such file' : reason === '' ? verdict : `${verdict}: ${reason}`);

/** What mends a search that found nothing; the likeliest first, commands on lines of their own. */
export function advice({ root, machine, choice }: Where, tried: readonly Tried[]): readonly string[] {
  if (choice.addon !== undefined) return ['TERNION_ADDON names the file to load, and no other is tried. Unset it, or name an addon for this machine.'];
  if (choice.prebuild !== undefined) return ['TERNION_PREBUILD names the prebuild to load, and no other is tried. Unset it.'];
  if (existsSync(join(root, 'lib', 'addon.ts'))) return ['This is a checkout: build the addon.', '  npm run build'];
  const lines: string[] = [];
  if (/\.asar([/\\]|$)/.test(root)) {
    lines.push('An Electron app must keep the addon outside its archive. In electron-builder\'s configuration:', '  "asarUnpack": ["**/node_modules/ternion/prebuilds/**"]');
  } else if (!existsSync(join(root, 'prebuilds')) && !tried.some(({ verdict }) => verdict === 'failed')) {
    lines.push(
      root.includes('node_modules')
        ? 'The package\'s folder prebuilds is missing. Install it anew:'
        : 'The package\'s folder prebuilds is not beside this file. Keep ternion out of the bundle (--external:ternion), and install it:',
      '  npm install --force ternion',
    );
  }
  const { platform, libc } = machine;
  const tools = platform !== 'linux' ? [] : [libc === 'musl' ? '  apk add cmake make g++ python3' : '  apt-get install cmake make g++ python3'];
  lines.push('Build it for this machine, which takes cmake 3.25, make or ninja, and a C++20 compiler:', ...tools, '  npm rebuild ternion --build-from-source');
  return lines;
}

/** What is thrown when nothing could be loaded. */
export function failure(where: Where, { tried, cause }: Search<unknown>): TernionError {
  const { platform, arch, libc, libcVersion, runtime } = where.machine;
  const here = [`${platform}-${arch}`, `${libc} ${libcVersion}`.trim(), runtime].filter((word) => word !== '').join(', ');
  const lines = [
    `no native addon can be loaded here (${here})`,
    'Tried:',
    ...tried.map((each) => `- ${each.path}: ${inWords(each)}`),
    'What to do:',
    ...advice(where, tried),
  ];
  const details = { path: tried.find(({ verdict }) => verdict === 'failed' || verdict === 'unfit')?.path, tried };
  const code = details.path === undefined ? 'ERR_BINARY_NOT_FOUND' : 'ERR_BINARY_INCOMPATIBLE';
  return new TernionError(code, lines.join('\n'), { details, ...(cause === undefined ? {} : { cause }) });
}
