/**
 * The engine's log. Nothing is printed unless somebody listens.
 */
import type { Addon } from './native.js';
import { refuse, show } from './validate.js';

/** From the most to the least talkative. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** One line of the engine's log, without a newline at its end. */
export interface LogEntry {
  readonly level: LogLevel;
  readonly message: string;
}

const levels: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];
const off = levels.length;

interface Listener {
  readonly minimum: number;
  readonly call: (entry: LogEntry) => void;
}

const listeners = new Set<Listener>();
let source: Addon | undefined;

/**
 * Calls `listener` with every line that the engine logs at `level` or above, until the returned function is called.
 *
 * Lines arrive on the thread that listens, shortly after they were written. Without a listener nothing is kept and
 * nothing is printed. Listening does not load the native addon. A listener that throws is reported as a process
 * warning and stays.
 *
 * @throws ERR_INVALID_ARG for an unknown level.
 * @example
 * ```ts
 * const stop = onLog('warn', ({ level, message }) => console.error(`[${level}] ${message}`));
 * ```
 */
export function onLog(level: LogLevel, listener: (entry: LogEntry) => void): () => void {
  const minimum = levels.indexOf(level);
  if (minimum < 0) refuse('onLog', 'level', `level must be one of ${levels.join(', ')}; found ${show(level)}`);
  if (typeof listener !== 'function') refuse('onLog', 'listener', `listener must be a function; found ${show(listener)}`);
  const entry: Listener = { minimum, call: listener };
  listeners.add(entry);
  connect();
  return () => {
    if (listeners.delete(entry)) connect();
  };
}

/** A line of our own, at `warn`. */
export function warn(message: string): void {
  deliver(levels.indexOf('warn'), message);
}

/** Called once, when the addon has been loaded: from then on it feeds the listeners. */
export function attachLog(addon: Addon): void {
  source = addon;
  if (listeners.size > 0) connect();
}

function connect(): void {
  const minimum = Math.min(off, ...[...listeners].map((listener) => listener.minimum));
  source?.onLog(minimum, minimum === off ? null : deliver);
}

function deliver(number: number, message: string): void {
  const level = levels[number] ?? 'error';
  for (const listener of [...listeners]) {
    if (number < listener.minimum) continue;
    try {
      listener.call({ level, message });
    } catch (error) {
      process.emitWarning(`a log listener threw: ${error instanceof Error ? error.message : String(error)}`, 'TernionWarning');
    }
  }
}
