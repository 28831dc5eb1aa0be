/**
 * One probe of a context: the model with that context, four fifths of it filled, and some tokens decoded behind that.
 */
import { TernionError } from '../errors.js';
import { loadModel } from '../load.js';
import type { LoadOptions } from '../load.js';
import type { Model } from '../model.js';
import { patience, serve } from '../probe/child.js';
import type { Alive } from '../probe/child.js';
import { peakResidentBytes } from '../probe/memory.js';
import type { Session } from '../session.js';

/** What the child is told. */
export interface CeilingJob {
  readonly path: string;
  readonly load: Omit<LoadOptions, 'context' | 'plan' | 'signal' | 'onProgress'>;
  readonly context: number;
  /** Until the model is loaded and has computed its first tokens. */
  readonly startMs: number;
}

/** What it says of a context that works. */
export interface CeilingFigures {
  /** Tokens that were filled, of each sequence. */
  readonly filled: number;
  readonly loadMs: number;
  /** Of all sequences together; decoding at that depth. */
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
  readonly peakResidentBytes: number;
}

const filledShare = 0.8;
const decodedTokens = 16;
const warmTokens = 16;

async function probe({ path, load, context, startMs }: CeilingJob, alive: Alive): Promise<CeilingFigures> {
  const began = performance.now();
  const model = await loadModel(path, { ...load, context, onProgress: () => alive(startMs, 0) });
  const loadMs = performance.now() - began;
  const sequences = load.sequences ?? 1;
  const stepMs = await warmUp(model, context);
  const steps = new Steps(alive, stepMs * Math.max(1, model.placement.ubatch / warmTokens));
  const filled = Math.max(1, Math.floor(context * filledShare));
  const decoded = Math.min(decodedTokens, context - filled);
  const done = new Array<number>(sequences).fill(0);
  const total = sequences * (filled + decoded);
  const sessions = await Promise.all(done.map(() => model.session()));
  const usages = await Promise.all(sessions.map((session, i) => fill(session, tokensOf(model, filled, i + 1), decoded, (tokens) => {
    done[i] = tokens;
    steps.tick(done.reduce((sum, each) => sum + each) / total);
  })));
  const prefillMs = Math.max(...usages.map((usage) => usage.prefillMs));
  const decodeMs = Math.max(...usages.map((usage) => usage.decodeMs));
  await model.dispose();
  return {
    filled, loadMs: Math.round(loadMs),
    prefillTokensPerSecond: rate(sequences * filled, prefillMs),
    decodeTokensPerSecond: rate(sequences * (decoded - 1), decodeMs), // the first token is the prefill's
    peakResidentBytes: peakResidentBytes(),
  };
}

const rate = (tokens: number, ms: number) => (ms > 0 ? Number(((1000 * tokens) / ms).toPrecision(4)) : 0);

/** A sign of life per step; how long the next may take follows from the longest until now. */
class Steps {
  #longest: number;
  #last = performance.now();

  constructor(private readonly alive: Alive, expectedMs: number) {
    this.#longest = expectedMs;
    alive(patience(expectedMs), 0);
  }

  tick(fraction: number): void {
    const now = performance.now();
    this.#longest = Math.max(this.#longest, now - this.#last);
    this.#last = now;
    this.alive(patience(this.#longest), fraction);
  }
}

/** Reads the weights and compiles what a device compiles at first use; gives the milliseconds of a second time. */
async function warmUp(model: Model, context: number): Promise<number> {
  const n = Math.min(warmTokens, context - 1);
  let ms = 0;
  for (const seed of [1001, 1002]) {
    const session = await model.session();
    const began = performance.now();
    if (n > 0) await session.continueTokens(tokensOf(model, n, seed), { maxTokens: 1, temperature: 0, ignoreEos: true });
    ms = performance.now() - began;
    await session.dispose();
  }
  return ms;
}

async function fill(session: Session, tokens: Int32Array, maxTokens: number, onTokens: (tokens: number) => void) {
  const generation = session.continueTokens(tokens, { temperature: 0, ignoreEos: true, maxTokens, logprobs: 1 });
  let generated = 0;
  for await (const chunk of generation) {
    if (chunk.type === 'progress') onTokens(chunk.done);
    if (chunk.type !== 'logprobs') continue;
    for (const { logprob } of chunk.logprobs) {
      if (!Number.isFinite(logprob) || logprob > 1e-6) throw wrong(`the probability of a token is e^${logprob}`);
    }
    onTokens(tokens.length + (generated += chunk.logprobs.length));
  }
  const { usage } = await generation;
  if (usage.prompt !== tokens.length || usage.generated !== maxTokens) throw wrong(`${usage.prompt} of ${tokens.length} tokens were filled, and ${usage.generated} of ${maxTokens} decoded`);
  return usage;
}

const wrong = (message: string) => new TernionError('ERR_INTERNAL', message);

/** Any tokens: what is in the cells changes neither their memory nor the time. Another row for each seed, so that none is shared. */
function tokensOf({ info }: Model, count: number, seed: number): Int32Array {
  let state = (seed * 2654435761) >>> 0;
  return Int32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % info.vocabulary;
  });
}

await serve(probe);
