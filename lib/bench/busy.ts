/**
 * A main thread that has other work.
 */
import { setImmediate, setTimeout } from 'node:timers';
import { setTimeout as wait } from 'node:timers/promises';

const blockMs = 50;

/** Runs `work` while this thread spins in blocks of 50 ms, letting other callbacks in between. */
export async function whileBusy<T>(work: () => Promise<T>): Promise<T> {
  let busy = true;
  const spin = (): void => {
    if (!busy) return;
    const end = performance.now() + blockMs;
    while (performance.now() < end);
    setImmediate(spin);
  };
  setTimeout(spin, 0);
  try {
    return await work();
  } finally {
    busy = false;
    await wait(2 * blockMs); // the next sample must not begin inside a block
  }
}
