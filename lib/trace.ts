/**
 * Telemetry through `node:diagnostics_channel`: one message when something has ended, nothing without a subscriber.
 */
import { channel } from 'node:diagnostics_channel';
import type { ErrorCode } from './errors.js';
import type { Usage } from './chunk.js';
import type { Unloaded } from './residence.js';
import type { Placement } from './placement.js';

/** `ternion:load`: a model was loaded, or loaded again, or could not be. */
export interface LoadTrace {
  readonly path: string;
  readonly devices: readonly string[];
  readonly ms: number;
  readonly placement?: Placement;
  readonly error?: ErrorCode;
}

/** `ternion:unload`: a model gave its memory back, because it was asked to or nobody needed it. */
export interface UnloadTrace extends Unloaded {
  readonly path: string;
}

/** `ternion:prefill`: a request's prompt is in the KV cache and its first text is on the way. */
export interface PrefillTrace {
  /** Tokens of the prompt, and how many of them were in the cache already. */
  readonly prompt: number;
  readonly cached: number;
  /** From the call to here, as JavaScript saw it. */
  readonly ms: number;
}

/** `ternion:generate`: a generation has ended. */
export interface GenerateTrace {
  readonly kind: 'chat' | 'complete';
  readonly ms: number;
  readonly reason?: 'stop' | 'length';
  readonly error?: ErrorCode;
  readonly usage?: Usage;
}

/** `ternion:cache`: sessions gave up cells, or state came back, since the last message. */
export interface CacheTrace {
  readonly evictions: number;
  readonly restores: number;
  readonly hits: number;
  readonly dropped: number;
  /** Cells in use, and bytes in the tiers, now. */
  readonly usedCells: number;
  readonly ramBytes: number;
  readonly diskBytes: number;
}

/** `ternion:step`: what the engine did since the last message. */
export interface StepTrace {
  readonly steps: number;
  /** Tokens of the last step, and generations that run and wait now. */
  readonly lastBatch: number;
  readonly running: number;
  readonly queued: number;
  readonly preemptions: number;
}

const channels = {
  load: channel('ternion:load'),
  unload: channel('ternion:unload'),
  prefill: channel('ternion:prefill'),
  generate: channel('ternion:generate'),
  cache: channel('ternion:cache'),
  step: channel('ternion:step'),
};

interface Traces {
  load: LoadTrace;
  unload: UnloadTrace;
  prefill: PrefillTrace;
  generate: GenerateTrace;
  cache: CacheTrace;
  step: StepTrace;
}

/** Publishes what `message` makes; `message` is not called when nobody subscribed. */
export function trace<K extends keyof Traces>(name: K, message: () => Traces[K]): void {
  const target = channels[name];
  if (target.hasSubscribers) target.publish(message());
}

/** Whether anybody listens. */
export function traced(name: keyof Traces): boolean {
  return channels[name].hasSubscribers;
}
