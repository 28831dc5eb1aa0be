/**
 * What a finding of this machine depends on, as the key under which it is kept.
 */
import { readFileSync } from 'node:fs';
import { addon, buildInfo } from '../addon.js';
import type { Experts } from '../experts.js';
import type { LoadOptions } from '../load.js';
import type { NativeDevice } from '../native.js';

/** The settings of a load that change what memory it takes, and where. */
export interface ProbeSettings extends Pick<LoadOptions, 'sequences' | 'spareSequences' | 'ubatch' | 'allowFallback'> {
  readonly gpus: readonly string[];
  readonly gpuLayers: number | 'all';
  readonly experts: Experts;
  readonly kv: { readonly k: string; readonly v: string };
  /** As it turned out, not as it was asked for. */
  readonly flashAttention: boolean;
}

/** Model, engine, devices with drivers and sizes, settings: what is found under one of them is true under no other. */
export function findingKey(model: string, known: readonly NativeDevice[], settings: ProbeSettings): object {
  const { gpus, sequences = 1, spareSequences = 'usual', ubatch = 512, flashAttention, kv } = settings;
  const beside = gpus.length > 0; // on the CPU alone nothing goes anywhere else
  return {
    model,
    engine: buildInfo()['llama'] ?? '',
    kernels: process.env['TERNION_KERNEL'] ?? '',
    limits: processLimits(),
    devices: known.filter(({ id }) => id === 'cpu' || gpus.includes(id)).map(({ id, backend, description, hardwareId, driver, driverVersion, totalBytes }) => ({ id, backend, description, hardwareId, driver, driverVersion, totalBytes })),
    gpuLayers: beside ? settings.gpuLayers : 'all', experts: beside ? settings.experts : 'gpu', allowFallback: beside && settings.allowFallback,
    sequences, spareSequences, ubatch, flashAttention, kv,
  };
}

/** What `ulimit` leaves this process, and those that it starts; of Linux. */
function processLimits(): string[] {
  try {
    return [...readFileSync('/proc/self/limits', 'utf8').matchAll(/^Max (?:data size|address space) +(\w+)/gm)].map(([, soft]) => soft!);
  } catch {
    return [];
  }
}

/** Which model a file is; undefined where it cannot be read, which a load tells better. */
export async function modelIdentity(path: string): Promise<string | undefined> {
  return addon().fingerprint(path).catch(() => undefined);
}

/** Until a child has to give its first sign of life: starting, and reading the file from a slow disk. */
export const startAllowanceMs = (fileBytes: number) => 120_000 + Math.ceil(fileBytes / 50_000);
