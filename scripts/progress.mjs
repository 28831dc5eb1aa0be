// What set-up shows: one line per step on stderr, so that stdout stays the program's own.

const CLEAR = '\r\x1b[2K';
const live = process.stderr.isTTY;

/**
 * Runs a step and prints its name and how long it took. The step is given a function to show how far it is,
 * which only a terminal sees.
 * @template T
 * @param {string} name
 * @param {(show: (text: string) => void) => T | Promise<T>} work
 */
export async function step(name, work) {
  const started = performance.now();
  const seconds = () => `${((performance.now() - started) / 1000).toFixed(1)} s`;
  const show = (text) => {
    if (live) process.stderr.write(`${CLEAR}${name} … ${text}`);
  };

  show('');
  try {
    const result = await work(show);
    process.stderr.write(`${live ? CLEAR : ''}${name}: ${seconds()}\n`);
    return result;
  } catch (error) {
    process.stderr.write(`${live ? CLEAR : ''}${name}: failed after ${seconds()}\n`);
    throw error;
  }
}

/** Prints one line beside the steps. */
export function note(text) {
  process.stderr.write(`${live ? CLEAR : ''}${text}\n`);
}
