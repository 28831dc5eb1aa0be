// A program in a process of its own, which may be killed, starved or confined.
import { spawn } from 'node:child_process';

export interface Confinement {
  /** Arguments of `ulimit`. */
  readonly limits?: string;
  /** What the command line begins with, e.g. `taskset -c 0`. */
  readonly prefix?: string;
  /** Of the process alone: nothing else is in its environment but PATH and HOME. Undefined removes. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  readonly timeoutMs?: number;
}

/** Runs `node program ...args`. Resolves to the JSON of its last line; rejects with how it ended if it did not end well. */
export async function inChild<T>(program: string, args: readonly string[] = [], { limits, prefix = '', env = {}, cwd, timeoutMs = 60_000 }: Confinement = {}): Promise<T> {
  const script = `${limits === undefined ? '' : `ulimit ${limits} && `}exec ${prefix} "$0" "$@"`;
  const child = spawn('bash', ['-c', script, process.execPath, program, ...args], { cwd, env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) => child.on('close', (...end) => resolve(end)));
  clearTimeout(timer);
  const last = out.trim().split('\n').at(-1) ?? '';
  if (code !== 0) throw new Error(`${program} ended with ${code ?? signal}: ${last}${err.slice(0, 2000)}`);
  return JSON.parse(last) as T;
}
