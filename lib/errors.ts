/**
 * The one error catalogue. Codes are API and never change their meaning; messages are for people and may change.
 */

/** Every code with one line on when it occurs and which `details` it carries. `docs/errors.md` is checked against it. */
export const errorCodes = {
  ERR_ABORTED: 'The operation was cancelled: by its signal (then `cause` is the reason), by `cancel()`, or because its session or model was disposed. `details`: `text` and `reasoning` generated so far, `usage` if anything ran.',
  ERR_BINARY_INCOMPATIBLE: 'A native addon was found but none can be loaded here: another platform or C library, a missing library, a CPU that lacks what it takes. The message and `npx ternion doctor` say what to do. `details`: `path`, and `tried` with `path`, `what`, `verdict` and `reason` of each.',
  ERR_BINARY_NOT_FOUND: 'No native addon for this platform. The message and `npx ternion doctor` say what to do. `details`: `tried`, the places that were searched, as above.',
  ERR_BUSY: 'The session is still generating, being captured or restored. Await or cancel that first; other sessions are free. Or a model is to be unloaded while requests run.',
  ERR_CONTEXT_FULL: 'The prompt, with what is to follow it, is longer than the context. `details`, in tokens: `requested`, `used` (what the session has now) and `available` (the context).',
  ERR_DEVICE_LOST: 'The device stopped working (driver reset, removed card). The model must be disposed and loaded again.',
  ERR_DEVICE_NOT_FOUND: 'A device was named that does not exist here. `details`: `device`, `available`, `unavailable` (backends without a device, and why).',
  ERR_DISPOSED: 'The model, session or snapshot was used after its `dispose()`.',
  ERR_GRAMMAR_INVALID: 'The GBNF grammar cannot be parsed, has no rule named `root`, is too large, or has too many ways to go on at some place of the text (`details`: `text` and `reasoning` so far).',
  ERR_INTERNAL: 'A defect of ternion or of the engine below it. Please report it with its message and `cause`.',
  ERR_INVALID_ARG: 'A wrong argument or option; the message says what was expected and what was found. `details`: `argument`.',
  ERR_IO: 'A file cannot be written: no space, no permission, no such folder; nothing is left under its name. Or a snapshot or the pack cache cannot be read, or a folder for state cannot be locked. `details`: `path`.',
  ERR_MODEL_INVALID: 'The file is no GGUF model, or it is damaged or incomplete; a generation fails with it when weights give no numbers. `details`, where they are known: `path`, and `key` of metadata that is wrong.',
  ERR_MODEL_NOT_FOUND: 'There is no readable file at the path. `details`: `path`.',
  ERR_MODEL_UNSUPPORTED: 'The model is sound, but cannot do this here: an unknown architecture, a KV type it does not take, embeddings it does not have, weights or operations that a device that was named does not compute (`details`: `device`, with `tensor` and `type` or with `operations`; see `allowFallback`), a norm or bias in a type that its operation does not take, weights that a ternary type would destroy (`details`: `tensor`, `type`, `relativeError`) or that were rounded before.',
  ERR_OUT_OF_MEMORY: 'Weights, KV cache or compute buffers do not fit on the device, or a snapshot does not fit into memory. Or the KV cache has no room for a request, because pinned sessions hold it; `details`, in cells: `kvTokens`, `free`.',
  ERR_PLAN_DOES_NOT_FIT: 'A plan cannot be followed: it does not fit, or no longer; or it is of another file or machine. `details`: `shortages` (by device `neededBytes` and `availableBytes`) and `memory` as it would be now, or `device`, or `path`.',
  ERR_STATE_CORRUPT: 'A snapshot is damaged: cut off, longer than it says, or not what was written. `details`: `path`, if it is a file.',
  ERR_STATE_MISMATCH: 'A snapshot is sound, but was made under another setting than it is to be used with: model, KV type, build, version of the format. Or the file of a model that was unloaded is another model by now. `details`: `setting`, its values `found` and `expected` (absent where there is none), and `path`, if it is a file.',
  ERR_TEMPLATE: 'The model has no chat template, or its template refused the conversation, cannot be parsed or takes more steps, memory or nesting than it may.',
} as const;

/** A code of {@link TernionError}. */
export type ErrorCode = keyof typeof errorCodes;

/** What a {@link TernionError} says beside its message; the keys of each code are listed in `docs/errors.md`. */
export type ErrorDetails = Readonly<Record<string, unknown>>;

/**
 * The only error class that ternion throws on its own account.
 *
 * What is wrong with a call itself (its arguments, a disposed object, a busy session) is thrown at once; what goes
 * wrong later rejects the promise.
 *
 * @example
 * ```ts
 * try {
 *   await session.chat(question, { signal: AbortSignal.timeout(5_000) });
 * } catch (error) {
 *   if (isTernionError(error, 'ERR_ABORTED')) console.log('so far:', error.details.text);
 *   else throw error;
 * }
 * ```
 */
export class TernionError<C extends ErrorCode = ErrorCode> extends Error {
  static {
    Object.defineProperty(this.prototype, 'name', { value: 'TernionError', configurable: true, writable: true });
  }

  /** What happened, for programs. */
  readonly code: C;
  /** The figures and names behind the message, for programs. */
  readonly details: ErrorDetails;

  constructor(code: C, message: string, options: { readonly details?: ErrorDetails; readonly cause?: unknown } = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.details = Object.freeze({ ...options.details });
  }
}

/**
 * Whether `error` is a {@link TernionError}, and if `code` is given, one with that code.
 *
 * It looks at the name and code rather than at the class, so it also recognises errors of another copy of the package.
 */
export function isTernionError<C extends ErrorCode = ErrorCode>(error: unknown, code?: C): error is TernionError<C> {
  if (!(error instanceof Error) || error.name !== 'TernionError' || !('code' in error)) return false;
  return code === undefined ? isErrorCode(error.code) : error.code === code;
}

/** What the addon rejected or threw, as a {@link TernionError}. Errors that already are one pass through. */
export function fromNative(failure: unknown, options: { readonly details?: ErrorDetails; readonly cause?: unknown } = {}): TernionError {
  if (isTernionError(failure)) return failure;
  const { code, message, details } = (typeof failure === 'object' && failure !== null ? failure : {}) as Record<string, unknown>;
  const text = typeof message === 'string' ? message : String(failure);
  const known = { ...(typeof details === 'object' ? details : undefined), ...options.details };
  if (isErrorCode(code)) {
    return new TernionError(code, text, 'cause' in options ? { details: known, cause: options.cause } : { details: known });
  }
  return new TernionError('ERR_INTERNAL', `the native addon failed: ${text}`, { details: known, cause: options.cause ?? failure });
}

function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(errorCodes, code);
}
