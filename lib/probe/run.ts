/**
 * Runs probes: child processes for what may take the process down that does it.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { TernionError } from '../errors.js';
import type { NativeDevice } from '../native.js';
import type { ProbeLine } from './child.js';

/** How a probe ended. */
export type ProbeOutcome =
  /** It did what it was to do. */
  | 'works'
  /** With an error of ternion's: no memory, a lost device. */
  | 'failed'
  /** With an exit code and without a word. */
  | 'exited'
  /** By a signal that its own doing raised (SIGSEGV, SIGABRT …). */
  | 'crashed'
  /** By a signal from elsewhere: the system had no memory left, or somebody ended it. */
  | 'killed'
  /** It said nothing for too long and was ended. */
  | 'hung';

export const outcomes: readonly ProbeOutcome[] = ['works', 'failed', 'exited', 'crashed', 'killed', 'hung'];

/** An outcome with what is known of it. */
export interface ProbeEnd {
  readonly outcome: ProbeOutcome;
  /** In words; empty for one that works. */
  readonly message: string;
  /** Of `failed`: of the error. */
  readonly code?: string | undefined;
  readonly exitCode?: number | undefined;
  readonly signal?: string | undefined;
  readonly ms: number;
}

/** Bytes by device. */
export type DeviceLimits = Readonly<Record<string, number>>;

/** What {@link limitDevice} holds this process to, of the devices that are used: another process knows nothing of it. */
export function limitsOf(known: readonly NativeDevice[], used: readonly string[]): DeviceLimits {
  return Object.fromEntries(known.flatMap(({ id, limited }) => (limited !== undefined && used.includes(id) ? [[id, limited.limitBytes]] : [])));
}

export interface ProbeRun {
  /** The child's program; it calls `serve`. */
  readonly script: string;
  /** For the child; becomes JSON. */
  readonly job: object;
  /** Of this process, which the child is to keep to as well: bytes by device. */
  readonly limits?: DeviceLimits | undefined;
  /** Until the child's first sign of life, which then says how long it may be silent. */
  readonly startMs: number;
  /** For all of it, in place of that. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((fraction: number) => void) | undefined;
}

const ownDoing = new Set(['SIGSEGV', 'SIGABRT', 'SIGBUS', 'SIGILL', 'SIGFPE', 'SIGTRAP', 'SIGSYS']);
/** A process that waits in a driver may outlive SIGKILL. */
const mournMs = 5000;

/** Rejects with ERR_ABORTED, the child being gone by then, and with ERR_INTERNAL where no process can be started. */
export async function runProbe({ script, job, limits = {}, startMs, timeoutMs, signal, onProgress }: ProbeRun): Promise<{ end: ProbeEnd; result: unknown }> {
  const aborted = () => new TernionError('ERR_ABORTED', 'probing was aborted', { cause: signal?.reason });
  if (signal?.aborted) throw aborted();
  const started = performance.now();
  const child = spawn(process.execPath, [script, JSON.stringify(job), JSON.stringify(limits)], { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ELECTRON_RUN_AS_NODE: '1' } });
  child.stdin.on('error', () => {}); // it ended
  let silentFor: number | undefined; // it was ended for that
  let last: Exclude<ProbeLine, { allowMs: number }> | undefined;
  let complaint = '';
  let mourning: NodeJS.Timeout | undefined;
  let givenUp = () => {};
  const kill = () => {
    child.kill('SIGKILL');
    mourning ??= setTimeout(() => givenUp(), mournMs);
  };
  const endAfter = (ms: number) => setTimeout(() => { silentFor = ms; kill(); }, ms);
  let watch = endAfter(timeoutMs ?? startMs);
  signal?.addEventListener('abort', kill, { once: true });
  readLines(child, (line) => {
    if ('result' in line || 'error' in line) last = line;
    else if ('allowMs' in line) {
      onProgress?.(line.fraction);
      if (timeoutMs !== undefined || silentFor !== undefined) return;
      clearTimeout(watch);
      watch = endAfter(line.allowMs);
    }
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => (complaint = (complaint + text).slice(-2000)));
  try {
    const [exitCode, by] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      givenUp = () => resolve([null, 'SIGKILL']);
      child.on('error', (cause) => reject(new TernionError('ERR_INTERNAL', `no process for a probe can be started: ${cause.message}`, { cause })));
      child.on('close', (code, name) => resolve([code, name]));
    });
    if (signal?.aborted) throw aborted();
    const ms = Math.round(performance.now() - started);
    const how = { silentFor, timeoutMs, exitCode, by, last, said: essence(complaint) };
    return { end: { ...verdict(how), ms }, result: last !== undefined && 'result' in last ? last.result : undefined };
  } finally {
    clearTimeout(watch);
    clearTimeout(mourning);
    signal?.removeEventListener('abort', kill);
    child.stdin.destroy();
    child.unref();
  }
}

interface Ended {
  readonly silentFor: number | undefined;
  readonly timeoutMs: number | undefined;
  readonly exitCode: number | null;
  readonly by: string | null;
  readonly last: Exclude<ProbeLine, { allowMs: number }> | undefined;
  readonly said: string;
}

function verdict({ silentFor, timeoutMs, exitCode, by, last, said }: Ended): Omit<ProbeEnd, 'ms'> {
  const words = said === '' ? '' : `: ${said}`;
  if (silentFor !== undefined) return { outcome: 'hung', message: timeoutMs === undefined ? `no sign of life for ${seconds(silentFor)}` : `not done after ${seconds(silentFor)}` };
  if (by !== null) return { outcome: ownDoing.has(by) ? 'crashed' : 'killed', signal: by, message: `ended by ${by}${words}` };
  if (last !== undefined && 'error' in last) return { outcome: 'failed', code: last.error.code, message: last.error.message };
  if (exitCode !== 0 || last === undefined) return { outcome: 'exited', exitCode: exitCode ?? -1, message: `ended with exit code ${exitCode}${words}` };
  return { outcome: 'works', message: '' };
}

/** The lines that say what went wrong, if any look like it, else the last. */
function essence(complaint: string): string {
  const lines = complaint.split('\n').map((line) => line.trim()).filter((line) => line !== '');
  const telling = lines.filter((line) => /^\w*error\b|assert|what\(\)|fatal/i.test(line));
  return (telling.length > 0 ? telling.slice(0, 2) : lines.slice(-2)).join('; ').slice(0, 400);
}

const seconds = (ms: number) => `${(ms / 1000).toPrecision(3)} s`;

function readLines(child: ChildProcess, take: (line: ProbeLine) => void): void {
  let rest = '';
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      try {
        take(JSON.parse(line) as ProbeLine);
      } catch {
        // a driver's words
      }
    }
  });
}
