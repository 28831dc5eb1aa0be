/**
 * The prebuilt addons of a CPU architecture, and what they ask of a machine. `cmake/variant.cmake` compiles for the same.
 */
import type { Platform } from './platform.js';

/** The oldest glibc that the prebuilds for Linux run on; a test reads the symbols that they take from it. */
export const glibcFloor = '2.34';

export interface Variant {
  readonly name: string;
  /** By Linux' names, as in {@link Platform.cpuFeatures}. */
  readonly cpuFeatures: readonly string[];
}

// Linux' names for some: pni is SSE3, abm is LZCNT.
const v2 = ['cx16', 'lahf_lm', 'pni', 'popcnt', 'sse4_1', 'sse4_2', 'ssse3'];
const v3 = ['abm', 'avx', 'avx2', 'bmi1', 'bmi2', 'f16c', 'fma', 'movbe', 'xsave'];
const v4 = ['avx512bw', 'avx512cd', 'avx512dq', 'avx512f', 'avx512vl'];

const byArch: Readonly<Record<string, readonly Variant[]>> = {
  x64: [
    { name: 'avx512', cpuFeatures: [...v2, ...v3, ...v4, 'avx512_vnni', 'avx512_vbmi2', 'avx512vbmi'] },
    { name: 'baseline', cpuFeatures: [...v2, ...v3] },
  ],
  arm64: [
    { name: 'dotprod', cpuFeatures: ['asimddp', 'asimdrdm', 'atomics', 'crc32'] },
    { name: 'baseline', cpuFeatures: [] },
  ],
};

/** Best first. */
export function variantsOf(arch: string): readonly Variant[] {
  return byArch[arch] ?? [];
}

/** Why `variant` cannot run on a machine; undefined if it can. */
export function unfitness(variant: Variant, machine: Platform): string | undefined {
  if (machine.libc === 'musl') return 'it is for glibc, and this system has musl';
  if (machine.libc === 'glibc' && isOlder(machine.libcVersion, glibcFloor)) return `it takes glibc ${glibcFloor} or newer; found ${machine.libcVersion}`;
  const { cpuFeatures } = machine;
  if (cpuFeatures === undefined) return variant.name === 'baseline' ? undefined : 'nobody says whether this CPU can run it';
  const missing = variant.cpuFeatures.filter((feature) => !cpuFeatures.has(feature));
  return missing.length === 0 ? undefined : `this CPU has no ${missing.join(', ')}`;
}

function isOlder(found: string, floor: string): boolean {
  const [a, b] = [found, floor].map((version) => version.split('.').map(Number));
  return a![0] !== b![0] ? a![0]! < b![0]! : (a![1] ?? 0) < (b![1] ?? 0);
}

/** `x86-64-v3 with avx512_vnni`, in words that people compare CPUs by. */
export function cpuLevel({ arch, cpuFeatures }: Platform): string {
  if (cpuFeatures === undefined) return `${arch}, features unknown`;
  const has = (features: readonly string[]) => features.every((feature) => cpuFeatures.has(feature));
  if (arch === 'arm64') return has(['asimddp']) ? 'armv8 with dotprod' : 'armv8';
  if (arch !== 'x64') return arch;
  const level = !has(v2) ? 1 : !has(v3) ? 2 : !has(v4) ? 3 : 4;
  const more = ['avx_vnni', 'avx512_vnni', 'avx512vbmi', 'avx512_vbmi2', 'avx512_bf16'].filter((feature) => cpuFeatures.has(feature));
  return `x86-64-v${level}${more.length > 0 ? ` with ${more.join(', ')}` : ''}`;
}
