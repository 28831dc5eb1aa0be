// What a figure was measured on, and with.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';

import { ROOT, WORK, ask } from '../scripts/run.mjs';

export const BIN = join(WORK, 'cmake', 'bin');

export function machine() {
  const { version, commit: llama } = JSON.parse(readFileSync(join(ROOT, 'vendor', 'llama.lock.json'), 'utf8'));
  return {
    cpu: cpuName(),
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    os: `${process.platform} ${release()} ${process.arch}`,
    node: process.version,
    commit: ask('git', ['describe', '--always', '--dirty']) ?? 'unknown',
    llama: `${version} (${llama.slice(0, 8)}), patched`,
    date: new Date().toISOString(),
  };
}

// A virtual machine may hide the model's name; family and instruction sets then tell more.
function cpuName() {
  const { model } = cpus()[0];
  try {
    const info = readFileSync('/proc/cpuinfo', 'utf8');
    const family = /^cpu family\s*: (.*)$/m.exec(info)?.[1];
    const flags = /^flags\s*: (.*)$/m.exec(info)?.[1]?.split(' ') ?? [];
    const sets = ['avx2', 'avx_vnni', 'avx512f', 'avx512_vnni', 'avx512_vbmi2'].filter((flag) => flags.includes(flag));
    return `${model} (family ${family}; ${sets.join(' ')})`;
  } catch {
    return model;
  }
}

/** Gigabytes per second that so many threads read together, by number of threads. */
export function readBandwidth(threads) {
  const lines = execFileSync(join(BIN, 'read_bandwidth'), threads.map(String), { encoding: 'utf8' });
  return Object.fromEntries(lines.trim().split('\n').map((line) => JSON.parse(line)).map((row) => [row.threads, row.gigabytesPerSecond]));
}
