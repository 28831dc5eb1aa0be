/**
 * How well a model predicts a text.
 */
import type { Model } from '../model.js';
import { chunksOf, firstCounted, Mean } from './chunks.js';
import type { QualityOptions } from './chunks.js';

export interface Perplexity {
  readonly perplexity: number;
  /** Of the perplexity. */
  readonly standardError: number;
  /** Predictions that were counted. */
  readonly tokens: number;
  readonly chunks: number;
}

/**
 * Perplexity of a text, by the method of llama.cpp's `llama-perplexity`: the two agree to four digits.
 *
 * @throws ERR_INVALID_ARG for a text of less than two chunks; ERR_ABORTED, ERR_DISPOSED.
 */
export async function perplexity(model: Model, text: string, options: QualityOptions = {}): Promise<Perplexity> {
  const { context = 512, signal, onProgress } = options;
  const chunks = await chunksOf('perplexity', model, text, context);
  const loss = new Mean();
  for (const [i, chunk] of chunks.entries()) {
    const scores = await model.score(chunk, { signal });
    for (const score of scores.subarray(firstCounted(context))) loss.add(-score);
    onProgress?.((i + 1) / chunks.length);
  }
  const value = Math.exp(loss.value);
  return { perplexity: value, standardError: loss.standardError * value, tokens: loss.count, chunks: chunks.length };
}
