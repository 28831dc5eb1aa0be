/**
 * Native work that can be cancelled.
 */
import { TernionError, fromNative } from './errors.js';
import type { NativeTask } from './native.js';
import type { NativeSessions, NativeWork } from './native-session.js';

/** The task's value; an abort cancels it. Native failures become errors of ours. */
export async function abortable<T>(signal: AbortSignal | undefined, start: () => NativeTask<T>): Promise<T> {
  if (signal?.aborted) throw new TernionError('ERR_ABORTED', 'the operation was aborted', { cause: signal.reason });
  const task = start();
  const cancel = () => task.cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    return await task.promise;
  } catch (failure) {
    throw fromNative(failure, signal?.aborted ? { cause: signal.reason } : {});
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}

/** The same for work of a session. */
export async function finished<T>(
  native: Pick<NativeSessions, 'cancel'>,
  call: string,
  signal: AbortSignal | undefined,
  start: () => Promise<NativeWork<T>>,
): Promise<T> {
  if (signal?.aborted) throw new TernionError('ERR_ABORTED', `${call} was aborted`, { cause: signal.reason });
  let id = 0;
  const abort = () => native.cancel(id);
  signal?.addEventListener('abort', abort, { once: true });
  try {
    const work = await start();
    id = work.id;
    if (signal?.aborted) abort();
    return await work.promise;
  } catch (failure) {
    throw fromNative(failure, signal?.aborted ? { cause: signal.reason } : {});
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}
