/**
 * What a session is made with.
 */
import type { Generation } from './generation.js';
import type { Message } from './message.js';
import type { OnFull } from './on-full.js';
import type { Residence } from './residence.js';
import type { Sampling } from './sampling.js';
import type { Session } from './session.js';
import type { Snapshot } from './snapshot.js';

/** Options of `model.session()`. */
export interface SessionOptions {
  /** The system message that the conversation starts with. */
  readonly system?: string | undefined;
  /** Starts as what a snapshot holds, its messages included; then `system` is not taken. */
  readonly from?: Snapshot | undefined;
  /** Sampling for every request of the session that does not say otherwise. */
  readonly sampling?: Sampling | undefined;
  /** What `chat()` does when the conversation does not fit into the context any more. Default `'error'`. */
  readonly onFull?: OnFull | undefined;
  /** Its cells stay in the KV cache while it is idle, whoever else needs room. Default false. */
  readonly pinned?: boolean | undefined;
}

/** @internal What a session needs of its model. */
export interface SessionHost {
  readonly residence: Residence;
  readonly context: number;
  readonly running: Set<Generation>;
  adopt(session: Session): void;
  forget(session: Session): void;
  /** Tokens of a prompt. */
  count(messages: readonly Message[], reasoning: boolean): Promise<number>;
  /** What every conversation that begins with these messages begins with. */
  beginning(messages: readonly Message[]): Promise<Int32Array>;
}
