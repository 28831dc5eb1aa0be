/**
 * A loaded model.
 */
import type { CacheState } from './cache.js';
import { TernionError, fromNative } from './errors.js';
import type { Generation } from './generation.js';
import { toNativeMessages } from './message.js';
import type { Message } from './message.js';
import type { NativeModel, NativeModelInfo, NativePlacement } from './native.js';
import type { NativeStats } from './native-session.js';
import { read } from './options.js';
import { Prime, commonPrefix } from './prime.js';
import type { PrimeOptions } from './prime.js';
import { Session } from './session.js';
import type { SessionHost, SessionOptions } from './session.js';
import { abortable } from './task.js';
import { wellFormed } from './text.js';
import { Watch } from './watch.js';

/** Facts from the file. */
export type ModelInfo = NativeModelInfo;
/** Where the model really is, and how it was set up. */
export type Placement = NativePlacement;
/** Counters since the model was loaded. */
export type Stats = NativeStats;

export interface TokenizeOptions {
  /** Read control tokens such as `<|im_end|>` in the text as tokens. Default false: they are text. */
  readonly special?: boolean | undefined;
  /** Add the begin and end tokens that the vocabulary asks for. Default false. */
  readonly bos?: boolean | undefined;
}
export interface DetokenizeOptions {
  /** Render control tokens as text. Default false: they give nothing. */
  readonly special?: boolean | undefined;
}
export interface RenderOptions {
  /** The template's thinking switch. Default `'on'`. */
  readonly reasoning?: 'on' | 'off' | undefined;
}
export interface EmbedOptions {
  /** Scale every vector to length 1. Default true. */
  readonly normalize?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}
export interface LogitsOptions {
  readonly signal?: AbortSignal | undefined;
}

/** Weights, vocabulary and KV cache in memory. Made by {@link loadModel}; freed by {@link Model.dispose}. */
export class Model implements AsyncDisposable {
  /** The file it was loaded from. */
  readonly path: string;
  readonly info: ModelInfo;
  /** Bytes by device, read from the loaded buffers, and the settings in force. */
  readonly placement: Placement;
  readonly #native: NativeModel;
  readonly #running = new Map<number, Generation>();
  readonly #sessions = new Set<Session>();
  readonly #watch = new Watch();
  readonly #host: SessionHost;
  #disposed: Promise<void> | undefined;

  /** @internal */
  constructor(native: NativeModel, path: string) {
    this.#native = native;
    this.path = path;
    this.info = Object.freeze(native.info);
    this.placement = Object.freeze(native.placement);
    this.#host = {
      native,
      context: this.placement.context,
      running: this.#running,
      use: () => this.#use(),
      adopt: (session) => this.#sessions.add(session),
      forget: (session) => this.#sessions.delete(session),
      beginning: (messages) => commonPrefix(messages, (some) => this.#tokensOf(some, true)),
      count: async (messages, reasoning) => (await this.#tokensOf(messages, reasoning)).length,
    };
    native.onWake(() => this.#wake(false));
  }

  /** Opens a conversation. @throws ERR_INVALID_ARG, ERR_DISPOSED; with `from`, as {@link Session.restore}. */
  async session(options: SessionOptions = {}): Promise<Session> {
    this.#use();
    const { from, ...rest } = read.sessionOptions(options);
    const session = new Session(this.#host, rest);
    try {
      if (from !== undefined) await session.restore(from);
    } catch (failure) {
      await session.dispose();
      throw failure;
    }
    return session;
  }

  /**
   * Prefills what conversations that begin with `messages` have in common and keeps it in the KV cache: sessions whose prompt
   * begins like this start there, until the {@link Prime} is disposed.
   *
   * @throws ERR_INVALID_ARG, ERR_CONTEXT_FULL, ERR_TEMPLATE, ERR_OUT_OF_MEMORY, ERR_ABORTED, ERR_DISPOSED.
   */
  async prime(messages: readonly Message[], options: PrimeOptions = {}): Promise<Prime> {
    this.#use();
    const { signal, reasoning } = read.primeOptions(options);
    const tokens = await commonPrefix(read.messages('model.prime', messages), (some) => this.#tokensOf(some, reasoning !== 'off'));
    const session = new Session(this.#host, { pinned: true });
    try {
      await session.continueTokens(tokens, { maxTokens: 0, signal });
    } catch (failure) {
      await session.dispose();
      throw failure;
    }
    return new Prime(session, tokens.length);
  }

  /** What the KV cache and the tiers behind it hold. */
  get cache(): CacheState {
    this.#use();
    return this.#native.cacheStats();
  }

  /** Gives up cells that nobody holds any more and that only wait to be of use as a prefix (`cache.cells.retained`), and all checkpoints. */
  async trimCache(): Promise<void> {
    this.#use();
    await settle(this.#native.trimCache());
  }

  /** Counters since the model was loaded: `sharedSteps` tells how often sessions were decoded together. */
  stats(): Stats {
    this.#use();
    return this.#native.stats();
  }

  /** Token ids of a text. */
  async tokenize(text: string, options: TokenizeOptions = {}): Promise<Int32Array> {
    this.#use();
    const { special, bos } = read.tokenizeOptions(options);
    return settle(this.#native.tokenize(wellFormed(read.text('model.tokenize', 'text', text)), bos ?? false, special ?? false));
  }

  /** Text of token ids; bytes that are no UTF-8 become U+FFFD. */
  async detokenize(tokens: Int32Array | readonly number[], options: DetokenizeOptions = {}): Promise<string> {
    this.#use();
    const { special } = read.detokenizeOptions(options);
    return settle(this.#native.detokenize(read.tokens('model.detokenize', tokens), special ?? false));
  }

  /** What the chat template makes of a conversation: the text that `chat()` would prompt with. */
  async render(messages: readonly Message[], options: RenderOptions = {}): Promise<string> {
    this.#use();
    const { reasoning } = read.renderOptions(options);
    return settle(this.#native.render(toNativeMessages(read.messages('model.render', messages)), reasoning !== 'off'));
  }

  /**
   * One vector per text, pooled as the file says, by mean where it says nothing. Texts are processed several at a time.
   *
   * @throws ERR_CONTEXT_FULL for a text longer than the training context.
   */
  async embed(texts: readonly string[], options: EmbedOptions = {}): Promise<Float32Array[]> {
    this.#use();
    const { normalize, signal } = read.embedOptions(options);
    const inputs = read.texts('model.embed', texts).map(wellFormed);
    return abortable(signal, () => this.#native.embed(inputs, normalize ?? true));
  }

  /**
   * Teacher-forced logits: for each position of `tokens` those of the token that would follow, row by row
   * (`tokens.length * info.vocabulary` floats). For comparing devices, quantisations and kernels.
   */
  async logits(tokens: Int32Array | readonly number[], options: LogitsOptions = {}): Promise<Float32Array> {
    this.#use();
    const { signal } = read.logitsOptions(options);
    const ids = read.tokens('model.logits', tokens);
    return abortable(signal, () => this.#native.logits(ids));
  }

  /**
   * Natural log probability of each token after those before it: `tokens.length - 1` floats, the first for the second
   * token. Far cheaper than {@link Model.logits} where only these are asked for.
   */
  async score(tokens: Int32Array | readonly number[], options: LogitsOptions = {}): Promise<Float32Array> {
    this.#use();
    const { signal } = read.logitsOptions(options);
    const ids = read.tokens('model.score', tokens);
    return abortable(signal, () => this.#native.score(ids));
  }

  /** Aborts what runs, then frees context and weights; resolves when the memory is back. Idempotent. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#dispose();
    return this.#disposed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  async #tokensOf(messages: readonly Message[], reasoning: boolean): Promise<Int32Array> {
    const text = await settle(this.#native.render(toNativeMessages(messages), reasoning));
    return settle(this.#native.tokenize(text, true, true));
  }

  #wake(last: boolean): void {
    if (!last) this.#watch.look(this.#native);
    for (const generation of [...this.#running.values()]) generation.wake(last);
  }

  async #dispose(): Promise<void> {
    this.#native.onWake(() => this.#wake(true)); // nothing can be drained once the engine is gone
    await settle(this.#native.dispose());
    for (const generation of [...this.#running.values()]) generation.abandon();
    this.#native.onWake(null);
  }

  #use(): void {
    if (this.#disposed !== undefined) throw new TernionError('ERR_DISPOSED', 'the model was disposed');
  }
}

async function settle<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (failure) {
    throw fromNative(failure);
  }
}
