/**
 * A conversation with a model.
 */
import { TernionError, fromNative } from './errors.js';
import { Generation } from './generation.js';
import type { ChatOptions, GenerateOptions, Result } from './generation.js';
import { toNativeMessages } from './message.js';
import type { Message } from './message.js';
import type { NativeModel, NativeRequest } from './native.js';
import { read } from './options.js';
import { mergeSampling, toNativeSampling } from './sampling.js';
import type { Sampling } from './sampling.js';
import { wellFormed } from './text.js';

/** Options of `model.session()`. */
export interface SessionOptions {
  /** The system message that the conversation starts with. */
  readonly system?: string | undefined;
  /** Sampling for every request of the session that does not say otherwise. */
  readonly sampling?: Sampling | undefined;
}

/** @internal What a session needs of its model. */
export interface SessionHost {
  readonly native: NativeModel;
  readonly context: number;
  readonly running: Map<number, Generation>;
  /** Throws ERR_DISPOSED once the model is. */
  use(): void;
  forget(session: Session): void;
}

/**
 * Holds one conversation and its KV cache. Sessions are cheap: they cost memory only while they hold tokens, and more
 * of them than the model has sequences take turns.
 */
export class Session implements AsyncDisposable {
  readonly #host: SessionHost;
  readonly #id: number;
  readonly #sampling: Sampling;
  #messages: readonly Message[];
  #running: Generation | undefined;
  #disposed: Promise<void> | undefined;

  /** @internal */
  constructor(host: SessionHost, options: SessionOptions) {
    this.#host = host;
    this.#id = host.native.openSession();
    this.#sampling = options.sampling ?? {};
    this.#messages = options.system === undefined ? [] : [{ role: 'system', content: options.system }];
  }

  /** Most tokens that the conversation may have. */
  get context(): number {
    return this.#host.context;
  }

  /** Tokens that it has now. */
  get usedTokens(): number {
    this.#use();
    return this.#host.native.sessionTokens(this.#id);
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
    const messages: readonly Message[] = typeof asked === 'string' ? [...this.#messages, { role: 'user', content: asked }] : asked;
    return this.#start('session.chat', checked, { messages: toNativeMessages(messages) }, (result) => {
      const answer: Message =
        result.reasoning === ''
          ? { role: 'assistant', content: result.text }
          : { role: 'assistant', content: result.text, reasoning: result.reasoning };
      this.#messages = [...messages, answer];
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
      await this.#host.native.closeSession(this.#id);
    } catch (failure) {
      if (fromNative(failure).code !== 'ERR_DISPOSED') throw fromNative(failure);
    }
    await running?.cancel();
  }

  #use(): void {
    this.#host.use();
    if (this.#disposed !== undefined) throw new TernionError('ERR_DISPOSED', 'the session was disposed');
  }

  #start(
    call: string,
    options: ChatOptions,
    prompt: Pick<NativeRequest, 'messages'> | Pick<NativeRequest, 'text'>,
    onResult: (result: Result) => void,
  ): Generation {
    this.#use();
    if (this.#running !== undefined) {
      throw new TernionError('ERR_BUSY', `${call}: the session is still generating; await or cancel that first, or open another session`);
    }
    const { maxTokens, stop, ignoreEos, logprobs, signal, reasoning, reasoningBudget, ...sampling } = options;
    const native = toNativeSampling(call, mergeSampling(this.#sampling, sampling));
    if (signal?.aborted) {
      return new Generation({
        kind: call === 'session.chat' ? 'chat' : 'complete',
        native: abortedModel,
        id: 0,
        seed: native.seed,
        signal,
        onEnd: () => {},
      });
    }
    let id: number;
    try {
      id = this.#host.native.generate(this.#id, {
        ...prompt,
        sampling: native,
        maxTokens: maxTokens ?? -1,
        stop: (typeof stop === 'string' ? [stop] : (stop ?? [])).map(wellFormed),
        ignoreEos: ignoreEos ?? false,
        logprobs: logprobs ?? 0,
        reasoning: reasoning !== 'off',
        reasoningBudget: reasoningBudget ?? -1,
      });
    } catch (failure) {
      throw fromNative(failure);
    }
    const generation = new Generation({
      kind: call === 'session.chat' ? 'chat' : 'complete',
      native: this.#host.native,
      id,
      seed: native.seed,
      signal,
      onEnd: (outcome) => {
        this.#running = undefined;
        this.#host.running.delete(id);
        if (!(outcome instanceof TernionError)) onResult(outcome);
      },
    });
    this.#running = generation;
    this.#host.running.set(id, generation);
    return generation;
  }
}

/** Stands in for the engine where a signal was aborted before anything started. */
const abortedModel = {
  cancel: () => {},
  drain: () => [
    {
      type: 'finish',
      reason: 'aborted',
      usage: { prompt: 0, cached: 0, generated: 0, reasoning: 0, prefillMs: 0, decodeMs: 0, firstTokenMs: 0 },
    },
  ],
} as unknown as NativeModel;
