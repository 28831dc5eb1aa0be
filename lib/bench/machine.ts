/**
 * What a figure was measured on, and with.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { addon, buildInfo } from '../addon.js';
import { TernionError } from '../errors.js';
import { abortable } from '../task.js';

export interface Machine {
  /** Model name; family and instruction sets where the system tells them, since virtual machines hide the name. */
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly os: string;
  readonly node: string;
  /** Build facts of the engine: its version, llama.cpp's commit, compiler, CPU features. */
  readonly engine: Readonly<Record<string, string | number | boolean | readonly string[]>>;
  /** ISO 8601. */
  readonly date: string;
}

export function machine(): Machine {
  return {
    cpu: cpuName(),
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    os: `${process.platform} ${release()} ${process.arch}`,
    node: process.version,
    engine: buildInfo(),
    date: new Date().toISOString(),
  };
}

function cpuName(): string {
  const model = cpus()[0]?.model ?? process.arch;
  try {
    const info = readFileSync('/proc/cpuinfo', 'utf8');
    const family = /^cpu family\s*: (.*)$/m.exec(info)?.[1];
    const flags = /^flags\s*: (.*)$/m.exec(info)?.[1]?.split(' ') ?? [];
    const sets = ['avx2', 'avx_vnni', 'avx512f', 'avx512_vnni', 'avx512_vbmi2'].filter((flag) => flags.includes(flag));
    return family === undefined ? model : `${model} (family ${family}; ${sets.join(' ')})`;
  } catch {
    return model;
  }
}

/**
 * Bytes per second that `threads` threads read together from memory: the roof of decoding, which streams the weights.
 * Takes about a second and a gibibyte.
 *
 * @throws rejects with ERR_OUT_OF_MEMORY, ERR_ABORTED.
 */
export async function readBandwidth(threads: number, options: { signal?: AbortSignal | undefined } = {}): Promise<number> {
  const { signal } = options;
  if (!Number.isInteger(threads) || threads < 1 || threads > 1024) {
    throw new TernionError('ERR_INVALID_ARG', `readBandwidth: threads must be an integer from 1 to 1024; found ${String(threads)}`, { details: { argument: 'threads' } });
  }
  return abortable(signal, () => addon().readBandwidth(threads, null));
}

const powercap = '/sys/class/powercap';

/** Joules that the CPU packages have used since some time, or undefined where the system does not tell. Wraps now and then. */
export function energyUsed(): number | undefined {
  try {
    // Other zones are parts of these, or the same once more.
    const packages = readdirSync(powercap).filter((name) => /^intel-rapl:\d+$/.test(name) && readFileSync(`${powercap}/${name}/name`, 'utf8').startsWith('package-'));
    if (packages.length === 0) return undefined;
    return packages.reduce((sum, name) => sum + Number(readFileSync(`${powercap}/${name}/energy_uj`, 'utf8')), 0) / 1e6;
  } catch {
    return undefined; // usually readable for root alone
  }
}
