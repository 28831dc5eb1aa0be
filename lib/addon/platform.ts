/**
 * What decides whether an addon can be loaded: operating system, C library, CPU, runtime.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

export interface Platform {
  /** `linux`, `darwin`, `win32`; as in `process.platform`. */
  readonly platform: string;
  /** `x64`, `arm64`; as in `process.arch`. */
  readonly arch: string;
  /** Empty where there is but one, or nobody says. */
  readonly libc: 'glibc' | 'musl' | '';
  /** Of glibc, `2.36`; else empty. */
  readonly libcVersion: string;
  /** `Node 20.19.0`, `Electron 38.1.0`, `Bun 1.3.0`. */
  readonly runtime: string;
  /** What the CPU can do and the system lets programs use, by Linux' names; undefined where this cannot be told without native code. */
  readonly cpuFeatures: ReadonlySet<string> | undefined;
}

/** This process'. Reads files and, on macOS with an Intel CPU, runs `sysctl`. */
export function thisPlatform(): Platform {
  return { platform: process.platform, arch: process.arch, ...cLibrary(), runtime: runtime(), cpuFeatures: cpuFeatures() };
}

function runtime(): string {
  const { node, electron, bun } = process.versions as Record<string, string | undefined>;
  if (electron !== undefined) return `Electron ${electron}`;
  return bun !== undefined ? `Bun ${bun}` : `Node ${node}`;
}

function cLibrary(): Pick<Platform, 'libc' | 'libcVersion'> {
  if (process.platform !== 'linux') return { libc: '', libcVersion: '' };
  const mapped = mappedCLibrary(fileText('/proc/self/maps') ?? '');
  if (mapped === 'musl') return { libc: 'musl', libcVersion: '' };
  const libcVersion = mapped === 'system' ? glibcVersionOf(fileText('/usr/bin/ldd') ?? '') : undefined;
  if (libcVersion !== undefined) return { libc: 'glibc', libcVersion };
  const { header, sharedObjects } = report();
  if (header?.glibcVersionRuntime !== undefined) return { libc: 'glibc', libcVersion: header.glibcVersionRuntime };
  if (sharedObjects?.some((path) => /\b(ld-musl-|libc\.musl-)/.test(path)) === true) return { libc: 'musl', libcVersion: '' };
  return { libc: '', libcVersion: '' };
}

/** What a process has in its memory, by Linux' `/proc/PID/maps`: musl, or the glibc whose version the system's `ldd` says. */
export function mappedCLibrary(maps: string): 'musl' | 'system' | undefined {
  if (/\/(?:ld-musl-|libc\.musl-)/.test(maps)) return 'musl';
  return /\s\/(?:usr\/)?lib(?:64|\/[\w-]*-linux-gnu\w*)?\/libc(?:\.so\.6|-2\.\d+\.so)$/m.test(maps) ? 'system' : undefined;
}

/** By the text of `ldd`, a shell script that says it. */
export function glibcVersionOf(ldd: string): string | undefined {
  return /ldd \([^)]*(?:GLIBC|GNU libc)[^)]*\) (\d+\.\d+)/.exec(ldd)?.[1];
}

interface Report {
  readonly header?: { readonly glibcVersionRuntime?: string };
  readonly sharedObjects?: readonly string[];
}

// Only asked if nothing else tells: it waits for each worker thread's turn, and one in a long call takes none. Without the network
// part, which may look up names.
function report(): Report {
  const from = process.report as (typeof process.report & { excludeNetwork?: boolean }) | undefined;
  if (typeof from?.getReport !== 'function') return {};
  const before = from.excludeNetwork;
  try {
    from.excludeNetwork = true;
    return from.getReport();
  } catch {
    return {};
  } finally {
    if (before !== undefined) from.excludeNetwork = before;
  }
}

function cpuFeatures(): ReadonlySet<string> | undefined {
  if (process.platform === 'linux') return featuresIn(fileText('/proc/cpuinfo') ?? '');
  if (process.platform === 'darwin') return process.arch === 'arm64' ? new Set(appleFeatures) : intelMacFeatures();
  return undefined;
}

/** Of the first CPU in Linux' `/proc/cpuinfo`; the kernel leaves out of it what it does not save for programs. */
export function featuresIn(cpuinfo: string): ReadonlySet<string> | undefined {
  const words = /^(?:flags|Features)\s*:(.*)$/m.exec(cpuinfo)?.[1];
  return words === undefined ? undefined : new Set(words.trim().split(/\s+/));
}

// Every CPU of Apple's that runs macOS has them.
const appleFeatures = ['asimd', 'asimddp', 'asimdrdm', 'atomics', 'crc32'];

function intelMacFeatures(): ReadonlySet<string> | undefined {
  const linuxNames: Readonly<Record<string, string>> = { 'avx1.0': 'avx', sse3: 'pni', 'sse4.1': 'sse4_1', 'sse4.2': 'sse4_2', lahf: 'lahf_lm', lzcnt: 'abm', avx512vnni: 'avx512_vnni', avx512vbmi2: 'avx512_vbmi2' };
  try {
    const keys = ['features', 'leaf7_features', 'extfeatures'].map((key) => `machdep.cpu.${key}`);
    const words = execFileSync('/usr/sbin/sysctl', ['-n', ...keys], { encoding: 'utf8' }).toLowerCase().trim().split(/\s+/);
    return new Set(words.map((word) => linuxNames[word] ?? word));
  } catch {
    return undefined;
  }
}

function fileText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
