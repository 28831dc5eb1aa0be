/**
 * The command line's options, read by `node:util`'s parseArgs, and the errors that end in exit code 2.
 */
import { parseArgs } from 'node:util';
import type { ParseArgsConfig } from 'node:util';
import type { GenerateOptions } from '../generation.js';
import type { LoadOptions } from '../load.js';

/** Wrong usage: one line, exit code 2. */
export class UsageError extends Error {}

export type Values = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>;
type Options = NonNullable<ParseArgsConfig['options']>;

export const common = { help: { type: 'boolean', short: 'h' }, json: { type: 'boolean' }, verbose: { type: 'boolean' } } as const satisfies Options;

export const loading = {
  model: { type: 'string', short: 'm' },
  device: { type: 'string', multiple: true },
  'gpu-layers': { type: 'string' },
  'cpu-experts': { type: 'string' },
  context: { type: 'string' },
  threads: { type: 'string' },
  ubatch: { type: 'string' },
  'flash-attention': { type: 'string' },
  kv: { type: 'string' },
} as const satisfies Options;

export const sampling = {
  'max-tokens': { type: 'string' },
  temperature: { type: 'string' },
  'top-k': { type: 'string' },
  'top-p': { type: 'string' },
  'min-p': { type: 'string' },
  'repeat-penalty': { type: 'string' },
  seed: { type: 'string' },
  stop: { type: 'string', multiple: true },
  'ignore-eos': { type: 'boolean' },
} as const satisfies Options;

export function parse(args: string[], options: Options): { values: Values; positionals: string[] } {
  try {
    const { values, positionals } = parseArgs({ args, options, allowPositionals: true, strict: true });
    return { values, positionals };
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

export function number(values: Values, name: string): number | undefined {
  const text = values[name];
  if (text === undefined) return undefined;
  const value = Number(text);
  if (typeof text !== 'string' || text.trim() === '' || !Number.isFinite(value)) throw new UsageError(`--${name} takes a number; found '${String(text)}'`);
  return value;
}

/** An option in MiB as bytes. */
export function mebibytes(values: Values, name: string): number | undefined {
  const n = number(values, name);
  return n === undefined ? undefined : n * 2 ** 20;
}

/** `--cpu-experts N|all`. */
function cpuExperts(values: Values): LoadOptions['experts'] {
  if (values['cpu-experts'] === 'all') return 'cpu';
  const cpuLayers = number(values, 'cpu-experts');
  return cpuLayers === undefined ? undefined : { cpuLayers };
}

/** `--flash-attention auto|on|off`. */
function flashAttention(values: Values): LoadOptions['flashAttention'] {
  const text = values['flash-attention'];
  if (text === undefined || text === 'auto') return text;
  if (text !== 'on' && text !== 'off') throw new UsageError(`--flash-attention takes auto, on or off; found '${String(text)}'`);
  return text === 'on';
}

export function loadOptions(values: Values): LoadOptions {
  return {
    devices: values['device'] as string[] | undefined,
    gpuLayers: number(values, 'gpu-layers'),
    experts: cpuExperts(values),
    context: number(values, 'context'),
    threads: number(values, 'threads'),
    ubatch: number(values, 'ubatch'),
    flashAttention: flashAttention(values),
    kv: values['kv'] as LoadOptions['kv'],
  };
}

export function generateOptions(values: Values): GenerateOptions {
  return {
    maxTokens: number(values, 'max-tokens'),
    temperature: number(values, 'temperature'),
    topK: number(values, 'top-k'),
    topP: number(values, 'top-p'),
    minP: number(values, 'min-p'),
    repeatPenalty: number(values, 'repeat-penalty'),
    seed: number(values, 'seed'),
    stop: values['stop'] as string[] | undefined,
    ignoreEos: values['ignore-eos'] as boolean | undefined,
  };
}
