/**
 * What to do with a conversation that has become longer than its context.
 */
import type { TernionError } from './errors.js';
import type { Message } from './message.js';

/** What a function given as `onFull` learns. */
export interface Full {
  /** The conversation, the new question included. */
  readonly messages: readonly Message[];
  /** Tokens that it takes with what is to follow it, and that the context holds. */
  readonly requested: number;
  readonly available: number;
  /** Tokens that other messages would take, with what is to follow them. */
  readonly count: (messages: readonly Message[]) => Promise<number>;
}

/**
 * `'error'`: ERR_CONTEXT_FULL, before any work. `'shift'`: the oldest turns go, as whole messages; system messages and the newest
 * turn stay. A function returns the messages to go on with.
 */
export type OnFull = 'error' | 'shift' | ((full: Full) => readonly Message[] | Promise<readonly Message[]>);

/**
 * The conversation without its oldest turns, as many of them as it takes; undefined if the newest turn alone is too long.
 * A turn is a user's message with what follows it up to the next one.
 */
export async function withoutOldestTurns(full: Full): Promise<readonly Message[] | undefined> {
  const { messages } = full;
  const start = messages.findIndex((message) => message.role !== 'system');
  const turns = messages.flatMap((message, i) => (i > start && message.role === 'user' ? [i] : []));
  const from = (i: number) => [...messages.slice(0, start), ...messages.slice(turns[i])];
  // Fewer messages take fewer tokens: the first cut that fits is found by halving.
  let low = 0;
  let high = turns.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((await full.count(from(middle))) <= full.available) high = middle;
    else low = middle + 1;
  }
  return low < turns.length ? from(low) : undefined;
}

/** @internal The messages to go on with, unchecked if a function gave them; or null where the error stands. */
export async function resolveFull(onFull: OnFull, error: TernionError, full: Omit<Full, 'requested' | 'available'>): Promise<readonly Message[] | null> {
  if (onFull === 'error') return null;
  const known: Full = { ...full, requested: Number(error.details['requested']), available: Number(error.details['available']) };
  return onFull === 'shift' ? ((await withoutOldestTurns(known)) ?? null) : onFull(known);
}

/** @internal What a request goes on as when the context was full. */
export interface Retry {
  /** Asks the engine and gives the request's id; called unless the generation has ended meanwhile. */
  readonly start: () => number;
  readonly dropped: readonly Message[];
}
