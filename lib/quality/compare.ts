/**
 * How much two models, or one model in two places, differ in what they predict.
 */
import { TernionError } from '../errors.js';
import type { Model } from '../model.js';
import { chunksOf, firstCounted, Mean } from './chunks.js';
import type { QualityOptions } from './chunks.js';

export interface Comparison {
  /** Mean Kullback-Leibler divergence of B from A in nats, and the standard error of the mean. */
  readonly divergence: number;
  readonly divergenceStandardError: number;
  readonly largestDivergence: number;
  /** Mean square of the differences between the logits, over the vocabulary and all positions, and its standard error over positions. */
  readonly squaredError: number;
  readonly squaredErrorStandardError: number;
  /** Share of positions at which both hold the same token for the most likely one. */
  readonly topAgreement: number;
  readonly perplexityA: number;
  readonly perplexityB: number;
  /** Mean difference of the losses, ln(perplexityB / perplexityA), and its standard error: paired, so far sharper than the two alone. */
  readonly logRatio: number;
  readonly logRatioStandardError: number;
  readonly tokens: number;
  readonly chunks: number;
}

/**
 * Compares the predictions of two models with the same vocabulary over a text, cut as {@link perplexity} cuts it. Takes
 * the memory of two chunks' logits (`context * vocabulary` floats each, several times over while they are passed on).
 *
 * @throws ERR_INVALID_ARG for different vocabularies, or a text of less than two chunks.
 */
export async function compare(a: Model, b: Model, text: string, options: QualityOptions = {}): Promise<Comparison> {
  const { context = 512, signal, onProgress } = options;
  const chunks = await chunksOf('compare', a, text, context);
  const other = await chunksOf('compare', b, text, context);
  const width = a.info.vocabulary;
  const same = chunks.length === other.length && chunks.every((chunk, i) => chunk.every((token, j) => token === other[i]?.[j]));
  if (b.info.vocabulary !== width || !same) {
    throw new TernionError('ERR_INVALID_ARG', `compare: the models read the text as different tokens (vocabularies of ${width} and ${b.info.vocabulary}); they cannot be compared token by token`, { details: { argument: 'b' } });
  }
  const [divergence, squaredError, lossA, lossB, difference] = [new Mean(), new Mean(), new Mean(), new Mean(), new Mean()];
  let agreed = 0;
  let largest = 0;
  for (const [i, chunk] of chunks.entries()) {
    const logitsA = await a.logits(chunk, { signal });
    const logitsB = await b.logits(chunk, { signal });
    for (let position = firstCounted(context); position + 1 < context; position++) {
      const rowA = logitsA.subarray(position * width, (position + 1) * width);
      const rowB = logitsB.subarray(position * width, (position + 1) * width);
      const [normA, normB] = [normaliser(rowA), normaliser(rowB)];
      const next = chunk[position + 1] ?? 0;
      const [nextA, nextB] = [normA.log - (rowA[next] ?? 0), normB.log - (rowB[next] ?? 0)];
      lossA.add(nextA);
      lossB.add(nextB);
      difference.add(nextB - nextA);
      const kl = divergenceOf(rowA, normA.log, rowB, normB.log);
      divergence.add(kl);
      largest = Math.max(largest, kl);
      squaredError.add(squaredErrorOf(rowA, rowB));
      if (normA.top === normB.top) agreed++;
    }
    onProgress?.((i + 1) / chunks.length);
  }
  return {
    divergence: divergence.value,
    divergenceStandardError: divergence.standardError,
    largestDivergence: largest,
    squaredError: squaredError.value,
    squaredErrorStandardError: squaredError.standardError,
    topAgreement: agreed / divergence.count,
    perplexityA: Math.exp(lossA.value),
    perplexityB: Math.exp(lossB.value),
    logRatio: difference.value,
    logRatioStandardError: difference.standardError,
    tokens: divergence.count,
    chunks: chunks.length,
  };
}

/** Logarithm of the sum of the exponentials, and where the largest logit is. */
function normaliser(row: Float32Array): { log: number; top: number } {
  let top = 0;
  for (let i = 1; i < row.length; i++) if ((row[i] ?? 0) > (row[top] ?? 0)) top = i;
  const largest = row[top] ?? 0;
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += Math.exp((row[i] ?? 0) - largest);
  return { log: largest + Math.log(sum), top };
}

function squaredErrorOf(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += ((b[i] ?? 0) - (a[i] ?? 0)) ** 2;
  return sum / a.length;
}

function divergenceOf(a: Float32Array, logA: number, b: Float32Array, logB: number): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) {
    const [pa, pb] = [(a[i] ?? 0) - logA, (b[i] ?? 0) - logB];
    sum += Math.exp(pa) * (pa - pb);
  }
  return Math.max(0, sum); // rounding may leave a tiny negative sum for equal rows
}
