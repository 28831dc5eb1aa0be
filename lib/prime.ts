/**
 * A beginning that many conversations share, kept ready.
 */
import type { Message } from './message.js';
import type { Session } from './session.js';

/** Options of `model.prime()`. */
export interface PrimeOptions {
  /** The template's thinking switch, as the conversations will have it. Default `'on'`. */
  readonly reasoning?: 'on' | 'off' | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Holds the cells of a prefix until it is disposed. */
export class Prime implements AsyncDisposable {
  /** Tokens that are ready. */
  readonly tokens: number;
  readonly #session: Session;

  /** @internal */
  constructor(session: Session, tokens: number) {
    this.#session = session;
    this.tokens = tokens;
  }

  /** Lets go of the cells. Idempotent. */
  dispose(): Promise<void> {
    return this.#session.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}

/**
 * The tokens that every conversation beginning with `messages` begins with. Where a user's turn comes next the template may
 * treat its text in any way, so two that have nothing in common are compared.
 */
export async function commonPrefix(messages: readonly Message[], tokensOf: (messages: readonly Message[]) => Promise<Int32Array>): Promise<Int32Array> {
  if (messages.at(-1)?.role === 'user') return tokensOf(messages);
  const [a, b] = await Promise.all(['a', '1'].map((content) => tokensOf([...messages, { role: 'user', content }])));
  if (a === undefined || b === undefined) return new Int32Array();
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return a.slice(0, length);
}
