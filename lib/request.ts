/**
 * A request as the addon takes it.
 */
import type { ChatOptions } from './generation.js';
import type { NativeModel } from './native.js';
import type { NativeRequest } from './native-session.js';
import { mergeSampling, toNativeSampling } from './sampling.js';
import type { Sampling } from './sampling.js';
import { wellFormed } from './text.js';

/** What the model is to see, and how it relates to the context. */
export type Prompt = Pick<NativeRequest, 'messages' | 'text' | 'tokens'> & Partial<Pick<NativeRequest, 'reserve' | 'shift'>>;

/** The seed that was settled, and a maker of requests that differ in their prompt alone. */
export function nativeRequest(call: string, defaults: Sampling | undefined, options: ChatOptions): { seed: number; request: (prompt: Prompt) => NativeRequest } {
  const { maxTokens, stop, ignoreEos, logprobs, signal, reasoning, reasoningBudget, priority, ...own } = options;
  void signal; // is the generation's
  const sampling = toNativeSampling(call, mergeSampling(defaults ?? {}, own));
  return {
    seed: sampling.seed,
    request: (prompt) => ({
      reserve: 1,
      shift: false,
      ...prompt,
      sampling,
      maxTokens: maxTokens ?? -1,
      stop: (typeof stop === 'string' ? [stop] : (stop ?? [])).map(wellFormed),
      ignoreEos: ignoreEos ?? false,
      logprobs: logprobs ?? 0,
      reasoning: reasoning !== 'off',
      reasoningBudget: reasoningBudget ?? -1,
      priority: priority ?? 0,
    }),
  };
}

/** Stands in for the engine where a signal was aborted before anything started. */
export const abortedModel = {
  cancel: () => {},
  drain: () => [
    {
      type: 'finish',
      reason: 'aborted',
      usage: { prompt: 0, cached: 0, generated: 0, reasoning: 0, prefillMs: 0, decodeMs: 0, firstTokenMs: 0, queueMs: 0, shifted: 0, interrupted: 0 },
    },
  ],
} as unknown as NativeModel;
