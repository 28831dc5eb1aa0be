/**
 * A conversation as a value: its messages, its tokens and their state.
 */
import { addon } from './addon.js';
import { TernionError, fromNative } from './errors.js';
import type { Message } from './message.js';
import type { NativeSnapshot } from './native-session.js';
import { read } from './options.js';

/** Options of `snapshot()` and `restore()`. */
export interface SnapshotOptions {
  readonly signal?: AbortSignal | undefined;
}

/**
 * What `session.snapshot()` gives and `session.restore()` and `model.session({ from })` take: with the same model, KV types and
 * build it comes back exactly, in this process or another. `docs/snapshot.md` describes the bytes.
 */
export class Snapshot implements AsyncDisposable {
  /** Tokens of the conversation. */
  readonly tokens: number;
  /** Bytes in memory, and of the file. */
  readonly bytes: number;
  /** Of the model, 32 hexadecimal digits. */
  readonly fingerprint: string;
  /** The conversation. */
  readonly messages: readonly Message[];
  readonly #native: NativeSnapshot;
  #disposed = false;

  /** @internal */
  constructor(native: NativeSnapshot) {
    this.#native = native;
    this.tokens = native.tokens;
    this.bytes = native.bytes;
    this.fingerprint = native.settings['model'] ?? '';
    this.messages = readConversation(native.conversation);
  }

  /** Reads a file and verifies all of it. @throws ERR_IO, ERR_STATE_CORRUPT, ERR_STATE_MISMATCH (a newer format). */
  static load(path: string): Promise<Snapshot> {
    const checked = read.path('Snapshot.load', 'path', path);
    return settle(addon().loadSnapshot(checked));
  }

  /** The inverse of {@link Snapshot.serialize}. @throws ERR_STATE_CORRUPT, ERR_STATE_MISMATCH (a newer format). */
  static deserialize(bytes: Uint8Array): Promise<Snapshot> {
    const checked = read.bytes('Snapshot.deserialize', bytes);
    return settle(addon().decodeSnapshot(checked));
  }

  /** Writes a file, which is under its name when it is whole and on disk. @throws ERR_IO. */
  async save(path: string): Promise<void> {
    const checked = read.path('snapshot.save', 'path', path);
    try {
      await this.native.save(checked);
    } catch (failure) {
      throw fromNative(failure);
    }
  }

  /** A copy as bytes, the same as in a file. */
  async serialize(): Promise<Uint8Array> {
    try {
      return await this.native.serialize();
    } catch (failure) {
      throw fromNative(failure);
    }
  }

  /** Frees the memory at once; otherwise it goes with the object. Idempotent. */
  dispose(): Promise<void> {
    if (!this.#disposed) this.#native.free();
    this.#disposed = true;
    return Promise.resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  /** @internal */
  get native(): NativeSnapshot {
    if (this.#disposed) throw new TernionError('ERR_DISPOSED', 'the snapshot was disposed');
    return this.#native;
  }
}

/** @internal What of a conversation lies beside its tokens. */
export function writeConversation(messages: readonly Message[]): string {
  return JSON.stringify({ messages });
}

function readConversation(text: string): readonly Message[] {
  if (text === '') return [];
  try {
    return read.conversation((JSON.parse(text) as { messages?: unknown }).messages);
  } catch (cause) {
    throw new TernionError('ERR_STATE_MISMATCH', 'the snapshot holds messages of a form that this version does not know', { cause });
  }
}

async function settle(promise: Promise<NativeSnapshot>): Promise<Snapshot> {
  try {
    return new Snapshot(await promise);
  } catch (failure) {
    throw fromNative(failure);
  }
}
