/**
 * What a generation gives: pieces on the way, and the whole at the end.
 */
import type { Message } from './message.js';
import type { NativeLogprob, NativeUsage } from './native-session.js';

/** Tokens are tokens, times are milliseconds. `reasoning` tokens are part of `generated`. */
export type Usage = NativeUsage;
/** A generated token with its log probability before sampling, and the most likely ones at its place. */
export type TokenLogprob = NativeLogprob;

/** A piece of a generation. */
export type Chunk =
  | {
      /** First of all, and only if the model was not in memory: it is loaded again, which is expected to take so long. */
      readonly type: 'loading';
      readonly expectedMs: number;
    }
  | {
      /** Of the prompt: `done` of `total` tokens are in the KV cache, `cached` were there before. */
      readonly type: 'progress';
      readonly done: number;
      readonly total: number;
      readonly cached: number;
      /** Estimated from the rate of earlier steps; missing before there is one. */
      readonly remainingMs?: number;
    }
  | { readonly type: 'text' | 'reasoning'; readonly text: string }
  | { readonly type: 'logprobs'; readonly logprobs: readonly TokenLogprob[] }
  | { readonly type: 'finish'; readonly reason: 'stop' | 'length'; readonly usage: Usage };

/** What awaiting a {@link Generation} gives. */
export interface Result {
  readonly text: string;
  readonly reasoning: string;
  /** `stop`: the model ended, or a stop string was met. `length`: maxTokens or the end of the context. */
  readonly reason: 'stop' | 'length';
  readonly usage: Usage;
  /** The seed that was used; with the same prompt and options it gives the same text. */
  readonly seed: number;
  /** One entry per token if `logprobs` was asked for. */
  readonly logprobs: readonly TokenLogprob[];
  /** Messages that were left out because the context was full, see `onFull`; they are no longer part of the session. */
  readonly dropped: readonly Message[];
}
