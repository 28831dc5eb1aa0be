/**
 * A running answer: awaitable for the whole, iterable for its chunks.
 */
import { ReadableStream } from 'node:stream/web';
import type { Chunk, Result, TokenLogprob, Usage } from './chunk.js';
import { TernionError, fromNative } from './errors.js';
import type { Message } from './message.js';
import type { Retry } from './on-full.js';
import type { NativeModel } from './native.js';
import type { NativeEvent } from './native-session.js';
import type { Sampling } from './sampling.js';
import { trace } from './trace.js';

/** Options of `complete()`, and of `chat()` with those of {@link ChatOptions}. */
export interface GenerateOptions extends Sampling {
  /** Most tokens to generate; 0 only fills the KV cache. Default: to the end of the context. */
  readonly maxTokens?: number | undefined;
  /** Strings that end the text; they are not part of it. */
  readonly stop?: string | readonly string[] | undefined;
  /** Never end by an end-of-generation token. Default false. */
  readonly ignoreEos?: boolean | undefined;
  /** Most likely tokens to report for each token, 0 to 100. Default 0. */
  readonly logprobs?: number | undefined;
  /** Higher goes first, and may interrupt lower ones at a token; equals in order of arrival. -100 to 100, default 0. */
  readonly priority?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Options of `chat()`. */
export interface ChatOptions extends GenerateOptions {
  /** The template's thinking switch, for models that have one. Default `'on'`. */
  readonly reasoning?: 'on' | 'off' | undefined;
  /** Most tokens inside the thinking block, after which it is closed. Default: no limit. */
  readonly reasoningBudget?: number | undefined;
}

/** @internal What starts and watches a generation. */
export interface Source {
  readonly kind: 'chat' | 'complete';
  readonly native: NativeModel;
  /** Of what the engine works on already; else `begin` says how to start it. */
  readonly id?: number;
  /** Where the model, or the session's state, is not in memory yet: resolves when it is, to what starts the request. */
  readonly begin?: { readonly ready: () => Promise<() => number>; readonly expectedMs: number | undefined };
  readonly seed: number;
  readonly signal: AbortSignal | undefined;
  /** Asked once, when the context was full: for another request in its place, or the error that stands. */
  readonly onFull?: (error: TernionError) => Promise<Retry | TernionError>;
  /** Called once with the result or the error, before anybody else learns of it. */
  readonly onEnd: (outcome: Result | TernionError) => void;
}

type Ended = { readonly result: Result } | { readonly error: TernionError };

/**
 * Starts at once. Await it for the {@link Result}, iterate it for {@link Chunk}s, both, or neither: one that nobody
 * consumes runs to its end in the background and keeps its outcome, also an error, for the first who asks.
 *
 * While an iterator is attached, text waits in the engine until it is pulled, and a slow reader slows the generation
 * down rather than filling memory. Every iterator starts at the first chunk. Leaving a `for await` early cancels.
 */
export class Generation implements PromiseLike<Result>, AsyncIterable<Chunk>, AsyncDisposable {
  readonly #source: Source;
  readonly #chunks: Chunk[] = [];
  readonly #started = performance.now();
  readonly #outcome: Promise<Result>;
  readonly #onAbort = () => this.#cancelNative();
  #settle!: (ended: Ended) => void;
  #ended: Ended | undefined;
  #waiting: (() => void)[] = [];
  #iterators = 0;
  #awaited = false;
  #text = '';
  #reasoning = '';
  #logprobs: TokenLogprob[] = [];
  #prefillSeen = false;
  #id: number;
  #away = false; // nothing native runs: not yet, or not just now
  #dropped: readonly Message[] = [];
  #retry: 'possible' | 'running' | 'done' = 'possible';

  /** @internal */
  constructor(source: Source) {
    this.#source = source;
    this.#id = source.id ?? 0;
    this.#outcome = new Promise((resolve, reject) => {
      this.#settle = (ended) => ('result' in ended ? resolve(ended.result) : reject(ended.error));
    });
    this.#outcome.catch(() => {}); // kept for whoever asks; never an unhandled rejection
    source.signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (source.begin !== undefined) void this.#begin(source.begin);
  }

  /** The engine has something new: take it, unless an iterator decides when. `last`: it is about to go. @internal */
  wake(last = false): void {
    if (last || this.#iterators === 0 || this.#awaited || this.#waiting.length > 0) this.#drain();
  }

  /** @internal The model ended before the generation could. */
  abandon(): void {
    this.#retry = 'done';
    this.#drain();
    if (this.#ended === undefined) this.#end({ error: this.#aborted(undefined) });
  }

  then<A = Result, B = never>(
    fulfilled?: ((result: Result) => A | PromiseLike<A>) | null,
    rejected?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#awaited = true;
    this.#drain();
    return this.#outcome.then(fulfilled, rejected);
  }

  catch<B = never>(rejected?: ((error: unknown) => B | PromiseLike<B>) | null): Promise<Result | B> {
    return this.then(undefined, rejected);
  }

  finally(done?: (() => void) | null): Promise<Result> {
    return this.then().finally(done);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Chunk, void, undefined> {
    this.#iterators++;
    let next = 0;
    let complete = false;
    try {
      for (;;) {
        if (next === this.#chunks.length && this.#ended === undefined) this.#drain();
        const chunk = this.#chunks[next];
        if (chunk !== undefined) {
          next++;
          yield chunk;
        } else if (this.#ended !== undefined) {
          complete = true;
          if ('error' in this.#ended) throw this.#ended.error;
          return;
        } else {
          await new Promise<void>((resolve) => this.#waiting.push(resolve));
        }
      }
    } finally {
      this.#iterators--;
      if (!complete && this.#iterators === 0 && !this.#awaited) await this.cancel();
    }
  }

  /** The text alone, piece by piece. */
  async *text(): AsyncGenerator<string, void, undefined> {
    for await (const chunk of this) if (chunk.type === 'text') yield chunk.text;
  }

  /** The chunks as a web stream; cancelling it cancels the generation. */
  toReadableStream(): ReadableStream<Chunk> {
    return ReadableStream.from(this);
  }

  /** Ends the generation; resolves when it has ended. Awaiting it then rejects with ERR_ABORTED. Idempotent. */
  async cancel(): Promise<void> {
    this.#cancelNative();
    this.#awaited = true;
    this.#drain();
    await this.#outcome.catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cancel();
  }

  #cancelNative(): void {
    if (this.#ended !== undefined) return;
    if (this.#away) this.#end({ error: this.#aborted(undefined) }); // whoever is waited for may never answer
    else this.#source.native.cancel(this.#id);
  }

  #drain(): void {
    if (this.#ended !== undefined || this.#away) return;
    for (const event of this.#source.native.drain(this.#id)) this.#take(event);
    if (this.#chunks.length > 0) this.#resume();
  }

  #resume(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #take(event: NativeEvent): void {
    switch (event.type) {
      case 'text':
        this.#text += event.text;
        break;
      case 'reasoning':
        this.#reasoning += event.text;
        break;
      case 'logprobs':
        this.#logprobs.push(...event.logprobs);
        break;
      case 'progress':
        if (event.done === event.total && !this.#prefillSeen) {
          this.#prefillSeen = true;
          trace('prefill', () => ({ prompt: event.total, cached: event.cached, ms: performance.now() - this.#started }));
        }
        break;
      case 'finish':
        if (event.reason === 'aborted') {
          this.#end({ error: this.#aborted(event.usage) });
          return;
        }
        this.#chunks.push({ type: 'finish', reason: event.reason, usage: event.usage });
        this.#end({
          result: {
            text: this.#text,
            reasoning: this.#reasoning,
            reason: event.reason,
            usage: event.usage,
            seed: this.#source.seed,
            logprobs: this.#logprobs,
            dropped: this.#dropped,
          },
        });
        return;
      case 'error': {
        const error = fromNative(event, { details: { text: this.#text, reasoning: this.#reasoning } });
        if (error.code === 'ERR_CONTEXT_FULL' && this.#source.onFull !== undefined && this.#retry === 'possible') void this.#goOn(error);
        else this.#end({ error });
        return;
      }
    }
    this.#chunks.push(event);
  }

  async #begin({ ready, expectedMs }: NonNullable<Source['begin']>): Promise<void> {
    this.#away = true;
    if (expectedMs !== undefined) this.#chunks.push({ type: 'loading', expectedMs });
    try {
      const start = await ready();
      if (this.#ended !== undefined) return; // it was aborted meanwhile
      this.#id = start();
    } catch (failure) {
      const error = fromNative(failure);
      if (this.#ended === undefined) this.#end({ error: error.code === 'ERR_DISPOSED' ? this.#aborted(undefined) : error });
      return;
    }
    this.#away = false;
    this.#drain();
  }

  // In the place of a request for which the context was full.
  async #goOn(full: TernionError): Promise<void> {
    this.#retry = 'running';
    this.#away = true;
    const next = (await this.#source.onFull?.(full)) ?? full;
    this.#retry = 'done';
    this.#away = false;
    if (this.#ended !== undefined) return; // it was aborted meanwhile
    if (next instanceof TernionError) {
      this.#end({ error: next });
      return;
    }
    try {
      this.#id = next.start();
    } catch (failure) {
      this.#end({ error: fromNative(failure) });
      return;
    }
    this.#dropped = next.dropped;
    this.#drain();
  }

  #aborted(usage: Usage | undefined): TernionError {
    const { signal } = this.#source;
    const details = { text: this.#text, reasoning: this.#reasoning, ...(usage && { usage }) };
    return new TernionError('ERR_ABORTED', 'the generation was aborted', signal?.aborted ? { details, cause: signal.reason } : { details });
  }

  #end(ended: Ended): void {
    this.#ended = ended;
    this.#source.signal?.removeEventListener('abort', this.#onAbort);
    const outcome = 'result' in ended ? ended.result : ended.error;
    this.#source.onEnd(outcome);
    trace('generate', () => {
      const ms = performance.now() - this.#started;
      const kind = this.#source.kind;
      return 'result' in ended ? { kind, ms, reason: ended.result.reason, usage: ended.result.usage } : { kind, ms, error: ended.error.code };
    });
    this.#settle(ended);
    this.#resume();
  }
}
