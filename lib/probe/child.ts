/**
 * The inside of a probe: a process that tries what may crash, hang or be killed, and says one JSON object per line on stdout.
 */
import { writeFileSync } from 'node:fs';
import { limitDevice } from '../devices.js';
import { fromNative } from '../errors.js';
import type { DeviceLimits } from './run.js';

/** A line: a sign of life, then the result or the error at the end. */
export type ProbeLine =
  /** No word for longer than `allowMs` means that it hangs. `fraction` is done of all. */
  | { readonly allowMs: number; readonly fraction: number }
  | { readonly result: unknown }
  | { readonly error: { readonly code: string; readonly message: string } };

export type Alive = (allowMs: number, fraction: number) => void;

const say = (line: ProbeLine) => new Promise<void>((resolve) => process.stdout.write(`${JSON.stringify(line)}\n`, () => resolve()));

/**
 * Does `work` with the job in the first argument, within the limits of devices in the second. It dies with the process that started it,
 * and before others where memory runs out.
 */
export async function serve<J>(work: (job: J, alive: Alive) => Promise<unknown>): Promise<void> {
  dieFirst();
  // The other end of stdin is the process that started this one. What is stuck in a driver does not end in an orderly way.
  const orphaned = () => process.kill(process.pid, 'SIGKILL');
  process.stdin.on('end', orphaned).on('error', orphaned).resume();
  try {
    for (const [id, bytes] of Object.entries(JSON.parse(process.argv[3] ?? '{}') as DeviceLimits)) await limitDevice(id, bytes);
    const result = await work(JSON.parse(process.argv[2] as string) as J, (allowMs, fraction) => void say({ allowMs, fraction }));
    await say({ result });
  } catch (failure) {
    const { code, message } = fromNative(failure);
    await say({ error: { code, message } });
  }
  process.stdin.off('end', orphaned).off('error', orphaned).destroy();
}

/** Linux kills the process with the highest score when memory runs out; raising one's own is always allowed. */
function dieFirst(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', '1000');
  } catch {
    // another system
  }
}

/** How long a step may take that took `ms` at most until now: far more, for it grows with the depth and others compute too. */
export const patience = (ms: number) => Math.max(30_000, Math.ceil(20 * ms));
