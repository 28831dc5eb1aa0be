/**
 * ternion itself as a system under test.
 */
import { TernionError } from '../errors.js';
import { loadModel } from '../load.js';
import { Skipped } from './measure.js';
import type { LoadOptions } from '../load.js';
import type { Model } from '../model.js';
import type { Result } from '../chunk.js';
import type { Session } from '../session.js';
import { beginning, textOf } from './prompt.js';

/** What a benchmark chooses of {@link LoadOptions}. */
export type SubjectOptions = Pick<LoadOptions, 'devices' | 'gpuLayers' | 'threads' | 'kv'>;

/**
 * A loaded model that gives samples in tokens per second. The greedy text of a decode must be the same in every sample of
 * a kind, on every subject that shares `texts`.
 */
export class Subject {
  readonly model: Model;
  readonly #sessions: readonly Session[];
  readonly #texts: Map<string, string>;
  readonly #signal: AbortSignal | undefined;
  readonly #begin: string;
  #seed = 0;

  private constructor(model: Model, sessions: readonly Session[], begin: string, texts: Map<string, string>, signal: AbortSignal | undefined) {
    this.model = model;
    this.#begin = begin;
    this.#sessions = sessions;
    this.#texts = texts;
    this.#signal = signal;
  }

  /** `context`: tokens of each of `sequences` sessions. */
  static async open(
    path: string,
    options: SubjectOptions & Pick<LoadOptions, 'experts' | 'ubatch' | 'flashAttention' | 'packCache'> & { context: number; sequences: number; texts: Map<string, string>; signal?: AbortSignal | undefined },
  ): Promise<Subject> {
    const { texts, signal, ...load } = options;
    const model = await loadModel(path, { ...load, signal });
    try {
      const sessions = await Promise.all(Array.from({ length: options.sequences }, () => model.session()));
      return new Subject(model, sessions, await beginning(model), texts, signal);
    } catch (error) {
      await model.dispose();
      throw error;
    }
  }

  /** From the call to the first token, for a prompt that nothing of is cached. */
  async prefill(tokens: number): Promise<number> {
    const text = await textOf(this.model, tokens, ++this.#seed);
    await this.#forget();
    const start = performance.now();
    const { usage } = await this.#complete(this.#first, text, 1);
    if (usage.prompt !== tokens || usage.cached > 1) throw wrong(`a prompt of ${tokens} tokens was prefilled as ${usage.prompt}, ${usage.cached} of them cached`);
    return (1000 * tokens) / (performance.now() - start);
  }

  /**
   * At depth 0: from the call to the result, prefill of the begin token, detokenising and streaming included. Deeper: from
   * the first token on, after a prompt of `depth` tokens.
   */
  async decode(tokens: number, depth = 0): Promise<number> {
    const text = depth === 0 ? this.#begin : await textOf(this.model, depth, 0);
    // A last prompt token that is prefilled in another batch rounds otherwise, and could tip a near-tie: fill the cache first.
    if (depth > 0) await this.#complete(this.#first, text, 0);
    const start = performance.now();
    const result = await this.#complete(this.#first, text, tokens);
    const took = performance.now() - start;
    this.#check(`decode ${tokens} at ${depth}`, tokens, result);
    return depth === 0 ? (1000 * tokens) / took : (1000 * (tokens - 1)) / (took - result.usage.firstTokenMs);
  }

  /** {@link decode} by the engine's clock: a busy main thread also learns of the result late, which is not the engine's doing. */
  async decodeInEngine(tokens: number): Promise<number> {
    const result = await this.#complete(this.#first, this.#begin, tokens);
    this.#check(`decode ${tokens} at 0`, tokens, result);
    return (1000 * tokens) / (result.usage.prefillMs + result.usage.decodeMs);
  }

  /** Tokens per second of `count` sessions together, each decoding `tokens` tokens after the begin token. */
  async together(count: number, tokens: number): Promise<number> {
    const start = performance.now();
    const results = await Promise.all(this.#sessions.slice(0, count).map((session) => this.#complete(session, this.#begin, tokens)));
    const took = performance.now() - start;
    const generated = results.reduce((sum, { usage }) => sum + usage.generated, 0);
    if (generated !== count * tokens) throw wrong(`${count} sessions made ${generated} tokens instead of ${count * tokens}`);
    return (1000 * generated) / took;
  }

  /** Milliseconds from an abort in the midst of a prefill of `tokens` tokens to the rejected promise. */
  async abort(tokens: number): Promise<number | Skipped> {
    const text = await textOf(this.model, tokens, ++this.#seed);
    await this.#forget();
    const controller = new AbortController();
    const start = performance.now();
    const running = this.#first.complete(text, { maxTokens: 1, signal: controller.signal });
    let aborted = 0;
    let timer: NodeJS.Timeout | undefined;
    try {
      for await (const chunk of running) {
        if (chunk.type !== 'progress' || timer !== undefined || chunk.done === 0) continue;
        const step = performance.now() - start; // what the first part of the prompt took
        timer = setTimeout(() => {
          aborted = performance.now();
          controller.abort();
        }, (step * ((this.#seed * 37) % 100)) / 200); // anywhere in the first half of the next part
      }
    } catch (error) {
      if (aborted > 0 && error instanceof TernionError && error.code === 'ERR_ABORTED') return performance.now() - aborted;
      throw error;
    } finally {
      clearTimeout(timer);
    }
    return new Skipped(`a prefill of ${tokens} tokens is over before it can be aborted`);
  }

  close(): Promise<void> {
    return this.model.dispose();
  }

  get #first(): Session {
    return this.#sessions[0] as Session;
  }

  async #complete(session: Session, text: string, maxTokens: number): Promise<Result> {
    return session.complete(text, { temperature: 0, ignoreEos: true, maxTokens, signal: this.#signal });
  }

  // Nothing that a prompt begins with may still be cached.
  async #forget(): Promise<void> {
    await this.#complete(this.#first, this.#begin, 0);
  }

  #check(kind: string, tokens: number, { text, usage }: Result): void {
    if (usage.generated !== tokens) throw wrong(`${kind}: ${usage.generated} tokens were generated`);
    const first = this.#texts.get(kind);
    if (first === undefined) this.#texts.set(kind, text);
    else if (first !== text) throw wrong(`${kind}: greedy text differs between two samples`);
  }
}

function wrong(what: string): TernionError {
  return new TernionError('ERR_INTERNAL', `benchmark: ${what}`);
}
