// What the parts of `npm run bench -- sessions` have in common: samples taken in turn, and answers that have to be right.

import assert from 'node:assert/strict';

export const THREADS = 2;
const TOLD_MS = 5000; // samples that take longer are told, so that a run shows where it is

export const greedy = { temperature: 0, ignoreEos: true };

// The shape's weights are random, so its best candidates lie close together and other batches tip them. A beginning that is not what
// it should be gives other candidates altogether.
export const CANDIDATES = { ...greedy, maxTokens: 1, logprobs: 20 };
export function sameCandidates(result, right) {
  const other = new Map(right.logprobs[0].top.map(({ token, logprob }) => [token, logprob]));
  const common = result.logprobs[0].top.filter(({ token }) => other.has(token));
  assert.ok(common.length >= 16, `of the 20 best candidates ${common.length} are the same`);
  for (const { token, logprob } of common) assert.ok(Math.abs(logprob - other.get(token)) < 0.2, 'as likely');
}

/** Milliseconds of `work`. */
export async function time(work) {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
}

/** Runs `samples` in turn, `rounds` times after one that warms up (round 0); milliseconds by name. */
export async function inTurn(rounds, samples) {
  const found = Object.fromEntries(Object.keys(samples).map((name) => [name, []]));
  for (let round = -1; round < rounds; round++) {
    for (const [name, sample] of Object.entries(samples)) {
      const ms = await sample(round);
      if (ms > TOLD_MS) console.error(`  ${name}, round ${round + 1} of ${rounds}: ${(ms / 1000).toFixed(1)} s`);
      if (round >= 0) found[name].push(ms);
    }
  }
  return found;
}

export function summaries(lib, found) {
  return Object.fromEntries(Object.entries(found).map(([name, ms]) => [name, lib.summarize(ms)]));
}
