/**
 * A loaded model.
 */
import type { CacheState } from './cache.js';
import { fromNative } from './errors.js';
import { expertState } from './expert-cache.js';
import type { ExpertState } from './expert-cache.js';
import type { Generation } from './generation.js';
import { toNativeMessages } from './message.js';
import type { Message } from './message.js';
import type { NativeModel, NativeModelInfo, NativeTask } from './native.js';
import type { NativeStats } from './native-session.js';
import type { DetokenizeOptions, EmbedOptions, LogitsOptions, RenderOptions, TokenizeOptions } from './model-options.js';
import { read } from './options.js';
import { warn } from './log.js';
import type { Placement } from './placement.js';
import { Prime, commonPrefix } from './prime.js';
import type { PrimeOptions } from './prime.js';
import { Residence } from './residence.js';
import type { Unloaded } from './residence.js';
import { Session } from './session.js';
import type { SessionHost, SessionOptions } from './session-options.js';
import { abortable } from './task.js';
import { wellFormed } from './text.js';
import { trace } from './trace.js';
import { Watch } from './watch.js';

/** Facts from the file. */
export type ModelInfo = NativeModelInfo;
/** Counters since the model was loaded. */
export type Stats = NativeStats;

/** Weights, vocabulary and KV cache in memory. Made by {@link loadModel}; freed by {@link Model.dispose}. */
export class Model implements AsyncDisposable {
  /** The file it was loaded from. */
  readonly path: string;
  readonly info: ModelInfo;
  /** Bytes by device, read from the loaded buffers, beside what was planned and what the system counts; and the settings in force. */
  get placement(): Placement {
    return this.#placement;
  }
  #placement!: Placement;
  readonly #residence: Residence;
  readonly #running = new Set<Generation>();
  readonly #sessions = new Set<Session>();
  readonly #primes = new Map<Session, Int32Array>();
  readonly #host: SessionHost;
  readonly #place: Loaded['place'];
  #watch = new Watch();
  #last!: { readonly stats: Stats; readonly cache: CacheState }; // when it was unloaded

  /** @internal */
  constructor(path: string, { native, devices, loadMs, keepAlive, place, load }: Loaded) {
    this.path = path;
    this.info = Object.freeze(native.info);
    this.#place = place;
    this.#arrived(native);
    this.#residence = new Residence(native, loadMs, keepAlive, {
      load,
      arrived: (again, ms) => {
        this.#arrived(again);
        trace('load', () => ({ path, devices, ms, placement: this.#placement }));
        for (const [session, tokens] of this.#primes) session.continueTokens(tokens, { maxTokens: 0 }).catch((failure: unknown) => warn(`${path}: a primed prefix could not be filled again: ${fromNative(failure).message}`));
      },
      leaving: (leaving) => this.#leaving(leaving),
      left: (unloaded) => trace('unload', () => ({ path, ...unloaded })),
      end: (leaving) => this.#end(leaving),
    });
    this.#host = {
      residence: this.#residence,
      context: this.placement.context,
      running: this.#running,
      adopt: (session) => this.#sessions.add(session),
      forget: (session) => { this.#sessions.delete(session); this.#primes.delete(session); },
      beginning: (messages) => commonPrefix(messages, (some) => this.#tokensOf(some, true)),
      count: async (messages, reasoning) => (await this.#tokensOf(messages, reasoning)).length,
    };
  }

  /** Opens a conversation. @throws ERR_INVALID_ARG, ERR_DISPOSED; with `from`, as {@link Session.restore}. */
  async session(options: SessionOptions = {}): Promise<Session> {
    this.#residence.check();
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
    const { signal, reasoning } = read.primeOptions(options);
    const checked = read.messages('model.prime', messages);
    const tokens = await this.#residence.run(signal, () => commonPrefix(checked, (some) => this.#tokensOf(some, reasoning !== 'off')));
    const session = new Session(this.#host, { pinned: true });
    try {
      await session.continueTokens(tokens, { maxTokens: 0, signal });
    } catch (failure) {
      await session.dispose();
      throw failure;
    }
    this.#primes.set(session, tokens);
    return new Prime(session, tokens.length);
  }

  /** What the KV cache and the tiers behind it hold; nothing while the model is not in memory. */
  get cache(): CacheState {
    this.#residence.check();
    return this.#residence.here?.cacheStats() ?? emptied(this.#last.cache, this.#sessions.size);
  }

  /**
   * Who was routed where, and what an expert cache holds; undefined unless it was loaded with `expertCache` or `countExperts`, and while
   * the model is not in memory.
   */
  get experts(): ExpertState | undefined {
    this.#residence.check();
    return expertState(this.#residence.here?.expertStats());
  }

  /** Gives up cells that nobody holds any more and that only wait to be of use as a prefix (`cache.cells.retained`), and all checkpoints. */
  async trimCache(): Promise<void> {
    this.#residence.check();
    await (this.#residence.here === undefined ? undefined : this.#residence.run(undefined, (native) => native.trimCache()));
  }

  /** Counters since the model was loaded, or loaded again: `sharedSteps` tells how often sessions were decoded together. */
  stats(): Stats {
    this.#residence.check();
    return this.#residence.here?.stats() ?? this.#last.stats;
  }

  /** Whether the model is in memory. */
  get loaded(): boolean {
    this.#residence.check();
    return this.#residence.here !== undefined;
  }

  /** What loading it again is expected to take, in ms: what it took last time. */
  get expectedLoadMs(): number {
    return this.#residence.expectedLoadMs;
  }

  /**
   * Gives its memory back; resolves when the device has it. Sessions stay: the next request loads the model again, with the same settings, and
   * goes on. As much of their state as `cache.ramBytes` has room for waits in host memory, what was used last first; the rest is prefilled again.
   *
   * @throws ERR_BUSY while requests run, ERR_DISPOSED.
   */
  unload(): Promise<Unloaded> {
    return this.#residence.unload();
  }

  /** Token ids of a text. */
  async tokenize(text: string, options: TokenizeOptions = {}): Promise<Int32Array> {
    const { special, bos } = read.tokenizeOptions(options);
    const checked = wellFormed(read.text('model.tokenize', 'text', text));
    return this.#residence.run(undefined, (native) => native.tokenize(checked, bos ?? false, special ?? false));
  }

  /** Text of token ids; bytes that are no UTF-8 become U+FFFD. */
  async detokenize(tokens: Int32Array | readonly number[], options: DetokenizeOptions = {}): Promise<string> {
    const { special } = read.detokenizeOptions(options);
    const checked = read.tokens('model.detokenize', tokens);
    return this.#residence.run(undefined, (native) => native.detokenize(checked, special ?? false));
  }

  /** What the chat template makes of a conversation: the text that `chat()` would prompt with. */
  async render(messages: readonly Message[], options: RenderOptions = {}): Promise<string> {
    const { reasoning } = read.renderOptions(options);
    const checked = toNativeMessages(read.messages('model.render', messages));
    return this.#residence.run(undefined, (native) => native.render(checked, reasoning !== 'off'));
  }

  /**
   * One vector per text, pooled as the file says, by mean where it says nothing. Texts are processed several at a time.
   *
   * @throws ERR_CONTEXT_FULL for a text longer than the training context.
   */
  async embed(texts: readonly string[], options: EmbedOptions = {}): Promise<Float32Array[]> {
    const { normalize, signal } = read.embedOptions(options);
    const inputs = read.texts('model.embed', texts).map(wellFormed);
    return this.#residence.run(signal, (native) => abortable(signal, () => native.embed(inputs, normalize ?? true)));
  }

  /**
   * Teacher-forced logits: for each position of `tokens` those of the token that would follow, row by row
   * (`tokens.length * info.vocabulary` floats). For comparing devices, quantisations and kernels.
   */
  async logits(tokens: Int32Array | readonly number[], options: LogitsOptions = {}): Promise<Float32Array> {
    const { signal } = read.logitsOptions(options);
    const ids = read.tokens('model.logits', tokens);
    return this.#residence.run(signal, (native) => abortable(signal, () => native.logits(ids)));
  }

  /**
   * Natural log probability of each token after those before it: `tokens.length - 1` floats, the first for the second
   * token. Far cheaper than {@link Model.logits} where only these are asked for.
   */
  async score(tokens: Int32Array | readonly number[], options: LogitsOptions = {}): Promise<Float32Array> {
    const { signal } = read.logitsOptions(options);
    const ids = read.tokens('model.score', tokens);
    return this.#residence.run(signal, (native) => abortable(signal, () => native.score(ids)));
  }

  /** Aborts what runs, then frees context and weights; resolves when the memory is back. Idempotent. */
  async dispose(): Promise<void> {
    await this.#residence.dispose();
    for (const generation of [...this.#running]) generation.abandon();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  async #tokensOf(messages: readonly Message[], reasoning: boolean): Promise<Int32Array> {
    const { native } = this.#residence;
    const text = await settle(native.render(toNativeMessages(messages), reasoning));
    return settle(native.tokenize(text, true, true));
  }

  #arrived(native: NativeModel): void {
    this.#placement = this.#place(native.placement);
    for (const { message } of this.#placement.differences) warn(`${this.path}: ${message}`);
    this.#watch = new Watch(); // counters begin anew
    native.onWake(() => this.#wake(native, false));
  }

  #wake(native: NativeModel, last: boolean): void {
    if (!last) this.#watch.look(native);
    for (const generation of [...this.#running]) generation.wake(last);
  }

  async #leaving(native: NativeModel): Promise<void> {
    const cache = native.cacheStats();
    this.#last = { stats: native.stats(), cache };
    // Those that have cells are those that were used last. Of others the engine has state in its own tiers at most, or nothing.
    const ranked = [...this.#sessions].sort((a, b) => b.rank - a.rank);
    let room = cache.ram.budget;
    for (const [i, session] of ranked.entries()) room -= await session.leave(native, i < cache.sessions.resident ? room : 0, cache.cells.bytesEach);
  }

  async #end(native: NativeModel): Promise<void> {
    native.onWake(() => this.#wake(native, true)); // nothing can be drained once the engine is gone
    await settle(native.dispose());
    native.onWake(null);
  }
}

/** @internal A native model, and how it came to be. */
export interface Loaded {
  readonly native: NativeModel;
  readonly devices: readonly string[];
  readonly loadMs: number;
  readonly keepAlive: number | undefined;
  readonly place: (placement: NativeModel['placement']) => Placement;
  readonly load: () => Promise<NativeTask<NativeModel>>;
}

/** The cache of a model that is not in memory. */
function emptied(cache: CacheState, open: number): CacheState {
  const none = { bytes: 0, entries: 0 };
  return {
    ...cache,
    cells: { ...cache.cells, used: 0, shared: 0, retained: 0 },
    sequences: { ...cache.sequences, used: 0 },
    sessions: { open, resident: 0, pinned: 0 },
    ram: { ...cache.ram, ...none }, disk: { ...cache.disk, ...none, writing: 0 }, checkpoints: { ...cache.checkpoints, ...none },
    prefixes: [],
  };
}

async function settle<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (failure) {
    throw fromNative(failure);
  }
}
