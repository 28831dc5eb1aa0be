/**
 * Telemetry through `node:diagnostics_channel`: one message when something has ended, nothing without a subscriber.
 */
import { channel } from 'node:diagnostics_channel';
import type { ErrorCode } from './errors.js';
import type { Usage } from './generation.js';
import type { Placement } from './model.js';

/** `ternion:load`: a model was loaded, or could not be. */
export interface LoadTrace {
  readonly path: string;
  readonly devices: readonly string[];
  readonly ms: number;
  readonly placement?: Placement;
  readonly error?: ErrorCode;
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

const channels = {
  load: channel('ternion:load'),
  prefill: channel('ternion:prefill'),
  generate: channel('ternion:generate'),
};

interface Traces {
  load: LoadTrace;
  prefill: PrefillTrace;
  generate: GenerateTrace;
}

/** Publishes what `message` makes; `message` is not called when nobody subscribed. */
export function trace<K extends keyof Traces>(name: K, message: () => Traces[K]): void {
  const target = channels[name];
  if (target.hasSubscribers) target.publish(message());
}
