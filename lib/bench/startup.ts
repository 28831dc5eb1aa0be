/**
 * What a process of its own takes: importing, loading, the first token, memory.
 */
import { execFile, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { TernionError } from '../errors.js';
import { inspectParts } from '../gguf/parts.js';
import { Skipped } from './measure.js';
import type { SubjectOptions } from './subject.js';

/** Milliseconds, and bytes. */
export interface Startup {
  /** `import('ternion')`. */
  readonly importMs: number;
  /** `loadModel()`. */
  readonly loadMs: number;
  /** From the start of the process to its first token after a prompt of one token. */
  readonly firstTokenMs: number;
  /** The most memory that was resident, mapped weights included. */
  readonly peakResidentBytes: number;
}

/** What the child is told, as JSON in its first argument. */
export interface StartupJob extends SubjectOptions {
  readonly path: string;
  readonly context: number;
  readonly tokens: number;
}

/** What is measured with: a context and tokens that other programs can be given, too. */
export const startupContext = 2048;
export const startupTokens = 16;

const child = fileURLToPath(new URL('./startup-child.js', import.meta.url));

/** Runs a fresh Node process that imports ternion, loads the model and decodes a few tokens. */
export async function startup(job: StartupJob, signal?: AbortSignal): Promise<Startup> {
  const aborted = () => new TernionError('ERR_ABORTED', 'the benchmark was aborted', { cause: signal?.reason });
  if (signal?.aborted) throw aborted();
  const start = performance.now();
  const running = spawn(process.execPath, [child, JSON.stringify(job)], { stdio: ['ignore', 'pipe', 'pipe'] });
  const kill = () => running.kill('SIGKILL');
  signal?.addEventListener('abort', kill, { once: true });
  let firstTokenMs = 0;
  let output = '';
  let errors = '';
  running.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    if (firstTokenMs === 0 && output.includes('\n')) firstTokenMs = performance.now() - start;
  });
  running.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
  const code = await new Promise<number | null>((resolve, reject) => running.on('error', reject).on('close', resolve)).finally(() =>
    signal?.removeEventListener('abort', kill),
  );
  if (signal?.aborted) throw aborted();
  const line = output.split('\n')[1];
  if (code !== 0 || !line) throw new TernionError('ERR_INTERNAL', `the benchmark's child process failed: ${errors.trim().slice(-500)}`);
  return { ...(JSON.parse(line) as Omit<Startup, 'firstTokenMs'>), firstTokenMs };
}

/** Drops a file, all parts of a split one, from the page cache, as far as the system allows: pages that a process has mapped stay. */
export async function dropFromCache(path: string): Promise<Skipped | undefined> {
  try {
    for (const part of (await inspectParts(path)).parts) {
      // GNU dd asks the kernel to drop the whole file when it is told to copy nothing of it without caching.
      await promisify(execFile)('dd', [`if=${part.path}`, 'iflag=nocache', 'count=0', 'status=none']);
    }
    return undefined;
  } catch {
    return new Skipped('the page cache cannot be emptied here (needs GNU dd)');
  }
}
