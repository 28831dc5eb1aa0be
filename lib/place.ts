/**
 * A session's place in the engine: none while the model is not in memory, and then perhaps a copy of its state.
 */
import { TernionError } from './errors.js';
import type { NativeModel } from './native.js';
import type { NativeSnapshot } from './native-session.js';

/** @internal */
export class Place {
  readonly #pinned: boolean;
  #id: number | undefined;
  #entering: Promise<number> | undefined; // the engine works on its state, for whoever asked first
  #state: NativeSnapshot | undefined;
  #tokens = 0; // when it had its last place
  #closed = false;
  /** When it was last needed, to be compared. */
  used = 0;

  constructor(pinned: boolean, id: number | undefined) {
    this.#pinned = pinned;
    this.#id = id;
  }

  /** Once the engine takes requests for it. */
  get id(): number | undefined {
    return this.#entering === undefined ? this.#id : undefined;
  }

  tokens(native: NativeModel | undefined): number {
    return native !== undefined && this.id !== undefined ? native.sessionTokens(this.id) : this.#tokens;
  }

  /** The model goes: leaves with a copy of the state if that takes no more than `room`, and says how much it takes. */
  async leave(native: NativeModel, room: number, bytesPerToken: number): Promise<number> {
    const id = this.#id;
    if (id === undefined) return this.#state?.bytes ?? 0;
    this.#tokens = native.sessionTokens(id);
    this.#id = undefined;
    if (this.#tokens === 0 || this.#tokens * bytesPerToken > room) return 0;
    try {
      const state = await native.capture(id, '', null).promise;
      if (state.bytes <= room && !this.#closed) this.#state = state;
      else state.free();
    } catch {
      // no memory for a copy: it is prefilled when it is asked for
    }
    return this.#state?.bytes ?? 0;
  }

  /**
   * Its id in a model that may have been loaded again, for all who ask meanwhile; the model stays until then. What has no state, or state that the
   * model does not take, is prefilled by its next request.
   */
  async enter(native: NativeModel): Promise<number> {
    this.used = performance.now();
    if (this.id === undefined) this.#entering ??= this.#open(native).finally(() => (this.#entering = undefined));
    const id = await (this.#entering ?? this.#id!);
    if (this.#closed) throw new TernionError('ERR_DISPOSED', 'the session was disposed');
    return id;
  }

  async #open(native: NativeModel): Promise<number> {
    if (this.#closed) throw new TernionError('ERR_DISPOSED', 'the session was disposed');
    const id = native.openSession(this.#pinned);
    this.#id = id;
    const state = this.#state;
    this.#state = undefined;
    if (state !== undefined) await native.adopt(id, state).promise.catch(() => {});
    state?.free();
    return id;
  }

  /** Frees cells and state; resolves when nobody enters any more. */
  async close(native: NativeModel | undefined): Promise<void> {
    this.#closed = true;
    this.#state?.free();
    this.#state = undefined;
    if (native !== undefined && this.#id !== undefined) await native.closeSession(this.#id);
    await this.#entering?.catch(() => {});
  }
}
