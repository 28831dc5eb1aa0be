/**
 * A conversation with a model.
 */
import type { Result } from './chunk.js';
import { TernionError, fromNative } from './errors.js';
import { Generation } from './generation.js';
import type { ChatOptions, GenerateOptions } from './generation.js';
import { toNativeMessages } from './message.js';
import type { Message } from './message.js';
import type { NativeModel } from './native.js';
import { resolveFull } from './on-full.js';
import type { Retry } from './on-full.js';
import { read } from './options.js';
import { Place } from './place.js';
import { abortedModel, nativeRequest } from './request.js';
import type { Prompt } from './request.js';
import type { SessionHost, SessionOptions } from './session-options.js';
import { Snapshot, writeConversation } from './snapshot.js';
import type { SnapshotOptions } from './snapshot.js';
import { finished } from './task.js';
import { wellFormed } from './text.js';

/**
 * Holds one conversation and its KV cache. Sessions are cheap: they cost memory only while they hold tokens, and more
 * of them than the model has sequences take turns.
 */
export class Session implements AsyncDisposable {
  readonly #host: SessionHost;
  readonly #place: Place;
  readonly #options: SessionOptions;
  #messages: readonly Message[];
  #astray = false; // cells hold what the messages do not, of rewound or aborted turns: no snapshot shall
  #running: Generation | undefined;
  #working: Promise<unknown> | undefined;
  #disposed: Promise<void> | undefined;

  /** @internal `id`: of a native session that is there already. */
  constructor(host: SessionHost, options: SessionOptions, id?: number) {
    const pinned = options.pinned ?? false;
    this.#host = host;
    this.#place = new Place(pinned, id ?? host.residence.here?.openSession(pinned));
    this.#options = options;
    this.#messages = options.system === undefined ? [] : [{ role: 'system', content: options.system }];
    host.adopt(this);
  }

  /** Most tokens that the conversation may have. */
  get context(): number {
    return this.#host.context;
  }

  /** Tokens of its last prompt and answer, in the KV cache or put away. */
  get usedTokens(): number {
    this.#use();
    return this.#place.tokens(this.#host.residence.here);
  }

  /** The conversation so far: finished turns only. */
  get messages(): readonly Message[] {
    return this.#messages;
  }

  /**
   * Asks the model through its own chat template.
   *
   * A string is appended as a user's turn; an array is the whole conversation and replaces what the session held. The
   * answer is appended when it has ended. An error or an abort leaves the conversation as it was before the call.
   * Only what the template now renders differently, or for the first time, is prefilled.
   *
   * @throws ERR_INVALID_ARG, ERR_BUSY, ERR_DISPOSED at once; the generation fails with ERR_CONTEXT_FULL, ERR_TEMPLATE,
   * ERR_GRAMMAR_INVALID, ERR_ABORTED or ERR_DEVICE_LOST.
   */
  chat(prompt: string | readonly Message[], options: ChatOptions = {}): Generation {
    const asked = read.prompt(prompt);
    const checked = read.chatOptions(options);
    let messages: readonly Message[] = typeof asked === 'string' ? [...this.#messages, { role: 'user', content: asked }] : asked;
    const { onFull = 'error' } = this.#options;
    const reasoning = checked.reasoning !== 'off';
    const reserve = onFull === 'error' ? 1 : Math.min(checked.maxTokens ?? Math.ceil(this.context / 4), Math.ceil(this.context / 2));
    return this.#start('session.chat', checked, { messages: toNativeMessages(messages), reserve }, (result) => {
      const answer: Message =
        result.reasoning === ''
          ? { role: 'assistant', content: result.text }
          : { role: 'assistant', content: result.text, reasoning: result.reasoning };
      this.#messages = [...messages, answer];
      this.#astray = false;
    }, onFull === 'error' ? undefined : async (full, restart) => {
      const all = messages;
      const count = async (some: readonly Message[]) => (await this.#host.count(some, reasoning)) + reserve;
      const kept = await resolveFull(onFull, full, { messages: all, count });
      if (kept === null) return full;
      messages = read.messages('onFull', kept);
      return { start: () => restart({ messages: toNativeMessages(messages), reserve, shift: onFull === 'shift' }), dropped: all.filter((message) => !kept.includes(message)) };
    });
  }

  /**
   * Continues `text` as it is, without a template; the vocabulary's begin token is added if it asks for one. `text` is
   * everything that the model sees: what the session held before only saves work where it begins alike.
   *
   * @throws as {@link Session.chat}.
   */
  complete(text: string, options: GenerateOptions = {}): Generation {
    const prompt = wellFormed(read.text('session.complete', 'text', text));
    return this.#start('session.complete', read.completeOptions(options), { text: prompt }, () => {});
  }

  /**
   * Keeps the first `messages` messages, counted from the end if it is negative: `rewind(-2)` takes the last question and answer
   * back. The next request prefills only what follows what it shares with the conversation so far.
   *
   * @throws ERR_INVALID_ARG, ERR_BUSY, ERR_DISPOSED.
   */
  rewind(messages: number): void {
    this.#idle('session.rewind');
    this.#messages = this.#messages.slice(0, read.rewind(messages));
    this.#astray = true;
  }

  /**
   * Another session that is what this one is now. Its cells are shared, not copied, until the two diverge; either may be disposed
   * first.
   *
   * @throws ERR_BUSY, ERR_DISPOSED.
   */
  async fork(): Promise<Session> {
    this.#idle('session.fork');
    const { here } = this.#host.residence;
    if (here !== undefined && this.#place.id !== undefined) return this.#forked(here, this.#place.id);
    return this.#work('session.fork', undefined, (native, id) => Promise.resolve(this.#forked(native, id)));
  }

  #forked(native: NativeModel, parent: number): Session {
    let id: number;
    try {
      id = native.forkSession(parent);
    } catch (failure) {
      throw fromNative(failure);
    }
    const fork = new Session(this.#host, { ...this.#options, pinned: false }, id);
    fork.#messages = this.#messages;
    fork.#astray = this.#astray;
    return fork;
  }

  /**
   * The conversation as a value. What has lost its cells is brought back, or prefilled, first.
   *
   * @throws ERR_BUSY, ERR_DISPOSED, ERR_ABORTED, ERR_OUT_OF_MEMORY; after a turn that was taken back or aborted also ERR_CONTEXT_FULL or
   * ERR_TEMPLATE, since the conversation is rendered anew.
   */
  async snapshot(options: SnapshotOptions = {}): Promise<Snapshot> {
    const { signal } = read.snapshotOptions('session.snapshot', options);
    const captured = await this.#work('session.snapshot', signal, (native, id) =>
      finished(native, 'session.snapshot', signal, async () => {
        const only = this.#astray ? await this.#host.beginning(this.#messages) : null;
        return native.capture(id, writeConversation(this.#messages), only);
      }),
    );
    return new Snapshot(captured);
  }

  /**
   * Becomes what the snapshot is, its messages included. If that fails the session is what it was.
   *
   * @throws ERR_STATE_MISMATCH (`details`: `setting`, `found`, `expected`), ERR_BUSY, ERR_DISPOSED, ERR_ABORTED, ERR_OUT_OF_MEMORY.
   */
  async restore(snapshot: Snapshot, options: SnapshotOptions = {}): Promise<void> {
    const { native: state, messages } = read.snapshot('session.restore', snapshot);
    const { signal } = read.snapshotOptions('session.restore', options);
    await this.#work('session.restore', signal, (native, id) => finished(native, 'session.restore', signal, () => Promise.resolve(native.adopt(id, state))));
    this.#messages = messages;
    this.#astray = false;
  }

  /** @internal The model goes: leaves with a copy of its state if that takes no more than `room` bytes, and says how much it takes. */
  leave(native: NativeModel, room: number, bytesPerToken: number): Promise<number> {
    return this.#place.leave(native, room, bytesPerToken);
  }

  /** @internal Pinned first, then what was used last. */
  get rank(): number {
    return this.#options.pinned === true ? Infinity : this.#place.used;
  }

  /** @internal Continues tokens as they are; with `maxTokens` 0 it fills cells and nothing else. */
  continueTokens(tokens: Int32Array, options: GenerateOptions): Generation {
    return this.#start('session.complete', options, { tokens }, () => {});
  }

  /** Ends a running generation, gives the cells back. Idempotent. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#dispose();
    return this.#disposed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  async #dispose(): Promise<void> {
    const running = this.#running;
    this.#host.forget(this);
    try {
      await this.#place.close(this.#host.residence.here);
    } catch (failure) {
      if (fromNative(failure).code !== 'ERR_DISPOSED') throw fromNative(failure);
    }
    await running?.cancel();
    await this.#working?.catch(() => {});
  }

  /** What runs on the engine without a generation. */
  async #work<T>(call: string, signal: AbortSignal | undefined, work: (native: NativeModel, id: number) => Promise<T>): Promise<T> {
    this.#idle(call);
    const running = this.#host.residence.run(signal, async (native) => work(native, this.#place.id ?? (await this.#place.enter(native))));
    this.#working = running;
    return running.finally(() => (this.#working = undefined));
  }

  #idle(call: string): void {
    this.#use();
    if (this.#running !== undefined || this.#working !== undefined) {
      throw new TernionError('ERR_BUSY', `${call}: the session is still working; await or cancel that first, or open another session`);
    }
  }

  #use(): void {
    this.#host.residence.check();
    if (this.#disposed !== undefined) throw new TernionError('ERR_DISPOSED', 'the session was disposed');
  }

  #start(
    call: 'session.chat' | 'session.complete',
    options: ChatOptions,
    prompt: Prompt,
    onResult: (result: Result) => void,
    onFull?: (full: TernionError, restart: (prompt: Prompt) => number) => Promise<Retry | TernionError>,
  ): Generation {
    this.#idle(call);
    const { signal } = options;
    const { seed, request } = nativeRequest(call, this.#options.sampling, options);
    const kind = call === 'session.chat' ? 'chat' : 'complete';
    if (signal?.aborted) {
      return new Generation({ kind, native: abortedModel, id: 0, seed, signal, onEnd: () => {} });
    }
    const { residence, running } = this.#host;
    const place = this.#place;
    const release = residence.use();
    const start = (what: Prompt) => residence.native.generate(place.id!, request(what));
    let id: number | undefined;
    try {
      place.used = performance.now();
      if (residence.here !== undefined && place.id !== undefined) id = start(prompt);
    } catch (failure) {
      release();
      throw fromNative(failure);
    }
    let entering = id === undefined;
    const begin = async () => {
      try {
        await place.enter(await residence.ready());
        return () => start(prompt);
      } finally {
        entering = false;
        if (this.#running !== generation) release(); // it was aborted meanwhile
      }
    };
    const generation = new Generation({
      kind,
      get native() { return residence.native; },
      ...(id === undefined ? { begin: { ready: begin, expectedMs: residence.here === undefined ? residence.expectedLoadMs : undefined } } : { id }),
      seed,
      signal,
      ...(onFull && {
        onFull: async (full: TernionError) => {
          try {
            return await onFull(full, start);
          } catch (failure) {
            const error = fromNative(failure);
            return error.code === 'ERR_INTERNAL' ? new TernionError('ERR_CONTEXT_FULL', `${full.message}; and onFull failed`, { details: full.details, cause: failure }) : error;
          }
        },
      }),
      onEnd: (outcome) => {
        this.#running = undefined;
        running.delete(generation);
        if (!entering) release();
        if (!(outcome instanceof TernionError)) onResult(outcome);
        else if (kind === 'chat') this.#astray = true;
      },
    });
    this.#running = generation;
    running.add(generation);
    return generation;
  }
}
