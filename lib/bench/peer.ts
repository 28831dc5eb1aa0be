/**
 * Other programs in the same run.
 */
import { execFile } from 'node:child_process';
import { basename } from 'node:path';
import { promisify } from 'node:util';
import { TernionError } from '../errors.js';
import type { PeerSettings } from './benchmark.js';
import type { Skipped } from './measure.js';

/** A system that is measured beside ternion. Each method gives tokens per second, or a {@link Skipped} with the reason. */
export interface Peer {
  readonly name: string;
  /** Of the program, for the report. */
  readonly version?: string | undefined;
  /** Of a prompt of `tokens` tokens that nothing of is cached. */
  prefill?(tokens: number): Promise<number | Skipped>;
  /** Of `tokens` greedy tokens after `depth` others, the first of them a begin token. */
  decode?(tokens: number, depth: number): Promise<number | Skipped>;
  /** Of `count` sequences decoded together, `tokens` tokens each, in all. */
  sessions?(count: number, tokens: number): Promise<number | Skipped>;
  /** Called by {@link benchmark} when it is over. */
  close?(): Promise<void>;
}

/** How a {@link Peer} of llama.cpp's own programs is run: as ternion is, which is what `benchmark` tells. */
export interface ProgramOptions extends PeerSettings {
  /** Default: the program's name. */
  readonly name?: string | undefined;
  /** More arguments. */
  readonly args?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A built `llama-bench`, of llama.cpp or of a fork whose options and JSON are the same. */
export function llamaBench(program: string, options: ProgramOptions): Peer {
  const measure = async (test: readonly string[]): Promise<number> => {
    const output = await run(program, [...common(options), '-r', '1', '-o', 'json', ...test], options.signal);
    const row = JSON.parse(output.slice(output.indexOf('['))) as { avg_ts: number }[];
    return row[0]?.avg_ts ?? Number.NaN;
  };
  return {
    name: options.name ?? basename(program),
    prefill: (tokens) => measure(['-p', String(tokens), '-n', '0']),
    decode: (tokens, depth) => measure(['-p', '0', '-n', String(tokens), ...(depth > 0 ? ['-d', String(depth)] : [])]),
  };
}

/** A built `llama-batched-bench`: sequences in one unified KV cache. */
export function llamaBatchedBench(program: string, options: ProgramOptions): Peer {
  return {
    name: options.name ?? basename(program),
    async sessions(count, tokens) {
      const cells = count * (tokens + 1);
      // Its log is written by a thread that does not outlive the program: the last row is often lost, so another one follows.
      const args = [...common(options), '-kvu', '-c', String(Math.max(cells, 256)), '-npp', '1', '-ntg', String(tokens), '-npl', `${count},1`, '--output-format', 'jsonl'];
      const line = (await run(program, args, options.signal)).split('\n').find((text) => text.startsWith('{'));
      if (line === undefined) throw new TernionError('ERR_INTERNAL', `${program} printed no result`);
      return (JSON.parse(line) as { speed_tg: number }).speed_tg;
    },
  };
}

function common({ path, threads, devices, gpuLayers, kv = 'f16', args = [] }: ProgramOptions): string[] {
  const [k, v] = typeof kv === 'string' ? [kv, kv] : [kv.k, kv.v];
  const place = devices.every((id) => id === 'cpu') ? ['-dev', 'none'] : ['-ngl', String(gpuLayers)];
  return ['-m', path, '-t', String(threads), ...place, ...(k === 'f16' ? [] : ['-ctk', k]), ...(v === 'f16' ? [] : ['-ctv', v]), ...args];
}

async function run(program: string, args: readonly string[], signal: AbortSignal | undefined): Promise<string> {
  try {
    return (await promisify(execFile)(program, args, { maxBuffer: 64 << 20, signal })).stdout;
  } catch (error) {
    if (signal?.aborted) throw new TernionError('ERR_ABORTED', 'the benchmark was aborted', { cause: signal.reason });
    const { code, stderr = '' } = error as { code?: string | number; stderr?: string };
    if (code === 'ENOENT') throw new TernionError('ERR_INVALID_ARG', `there is no program ${program}`, { details: { argument: 'program' } });
    throw new TernionError('ERR_INTERNAL', `${program} failed (${String(code)}): ${stderr.trim().split('\n').slice(-3).join(' ')}`);
  }
}
