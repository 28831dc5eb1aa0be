/**
 * How a text is cut for measuring: as llama.cpp's `llama-perplexity` does it, so that figures can be compared.
 */
import { TernionError } from '../errors.js';
import type { Model } from '../model.js';
import { refuse } from '../validate.js';

/** Options of the quality tools. */
export interface QualityOptions {
  /** Tokens of a chunk; each is read anew, and its second half counts. Default 512. */
  readonly context?: number | undefined;
  /** Called with the fraction that is done, 0 to 1. */
  readonly onProgress?: ((fraction: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Whole chunks of `context` tokens; what is left over at the end does not count. Where the vocabulary asks for a begin
 * token, it takes the place of each chunk's first token.
 *
 * @throws ERR_INVALID_ARG for a text of less than two chunks.
 */
export async function chunksOf(call: string, model: Model, text: string, context: number): Promise<Int32Array[]> {
  if (!Number.isInteger(context) || context < 4) refuse(call, 'options.context', `options.context must be an integer of at least 4, in tokens; found ${context}`);
  const [begin] = await model.tokenize('', { bos: true });
  const tokens = await model.tokenize(text, { special: true, bos: true });
  const count = Math.floor(tokens.length / context);
  if (count < 2) {
    throw new TernionError('ERR_INVALID_ARG', `${call}: the text has ${tokens.length} tokens; measuring takes at least ${2 * context}, two chunks of ${context}`, {
      details: { argument: 'text', tokens: tokens.length, needed: 2 * context },
    });
  }
  return Array.from({ length: count }, (_, i) => {
    const chunk = tokens.slice(i * context, (i + 1) * context);
    if (begin !== undefined) chunk[0] = begin;
    return chunk;
  });
}

/** First position of a chunk whose prediction counts: before it there is too little to go by. */
export const firstCounted = (context: number): number => Math.floor(context / 2);

/** Mean of samples and the standard error of that mean. */
export class Mean {
  count = 0;
  #sum = 0;
  #squares = 0;

  add(value: number): void {
    this.count++;
    this.#sum += value;
    this.#squares += value * value;
  }

  get value(): number {
    return this.#sum / this.count;
  }

  get standardError(): number {
    const variance = this.#squares / this.count - this.value ** 2;
    return variance > 0 ? Math.sqrt(variance / (this.count - 1)) : 0;
  }
}
