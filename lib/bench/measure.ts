/**
 * Samples of several systems, taken in turns, and what is said of them.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { TernionError } from '../errors.js';

/** What a row of samples says. Quartiles are interpolated linearly. */
export interface Summary {
  readonly median: number;
  readonly q1: number;
  readonly q3: number;
  readonly min: number;
  readonly max: number;
  readonly samples: readonly number[];
}

/** A {@link Summary} of ratios. */
export interface Ratio extends Summary {
  /**
   * Nothing can be told apart: the quartiles lie on both sides of 1, or the median is within the spread of the control,
   * which compares a system with itself.
   */
  readonly tie: boolean;
}

/** Gives one sample, or why there is none. */
export type Sample = () => Promise<number | Skipped>;

/** Why a system has no figure for a test. */
export class Skipped {
  constructor(readonly reason: string) {}
}

export interface Samples {
  readonly values: ReadonlyMap<string, readonly number[]>;
  readonly skipped: ReadonlyMap<string, string>;
}

// Workers of whatever was measured last go on looking for work for a while; the next one must not share its cores with them.
const usualSettleMs = 200;

/**
 * Takes `rounds` rounds; each takes one sample of every system, so that what changes slowly (clocks, memory, neighbours) is
 * in all of them, and begins with another one, so that none is always the first. One more round before them warms up and
 * is dropped. `settleMs` lie between two samples.
 */
export async function alternate(
  systems: ReadonlyMap<string, Sample>,
  rounds: number,
  options: { onSample?: (fraction: number) => void; signal?: AbortSignal | undefined; settleMs?: number } = {},
): Promise<Samples> {
  const values = new Map<string, number[]>([...systems.keys()].map((name) => [name, []]));
  const skipped = new Map<string, string>();
  const total = systems.size * (rounds + 1);
  const { settleMs = usualSettleMs } = options;
  let done = 0;
  const order = [...systems];
  for (let round = 0; round <= rounds; round++) {
    const first = round % order.length;
    for (const [name, sample] of [...order.slice(first), ...order.slice(0, first)]) {
      options.onSample?.(done++ / total);
      if (skipped.has(name)) continue;
      if (done > 1 && settleMs > 0) await wait(settleMs);
      if (options.signal?.aborted) throw new TernionError('ERR_ABORTED', 'the benchmark was aborted', { cause: options.signal.reason });
      const value = await sample();
      if (value instanceof Skipped) {
        skipped.set(name, value.reason);
        values.delete(name);
      } else if (round > 0) {
        values.get(name)?.push(value);
      }
    }
  }
  return { values, skipped };
}

const rounded = (value: number): number => Number(value.toPrecision(5));

export function summarize(samples: readonly number[]): Summary {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (quantile: number): number => {
    const place = quantile * (sorted.length - 1);
    const low = sorted[Math.floor(place)] ?? Number.NaN;
    const high = sorted[Math.ceil(place)] ?? Number.NaN;
    return rounded(low + (high - low) * (place - Math.floor(place)));
  };
  return { median: at(0.5), q1: at(0.25), q3: at(0.75), min: at(0), max: at(1), samples: samples.map(rounded) };
}

/** Ratios of samples of the same round. */
export function pairedRatio(numerator: readonly number[], denominator: readonly number[]): Summary {
  return summarize(numerator.map((value, i) => value / (denominator[i] ?? Number.NaN)));
}

/** `ratio` with the verdict that a control of the same run allows: its spread is the distance of its farther quartile from 1. */
export function judged(ratio: Summary, control: Summary): Ratio {
  const spread = Math.max(Math.abs(control.q1 - 1), Math.abs(control.q3 - 1), Math.abs(control.median - 1));
  return { ...ratio, tie: (ratio.q1 <= 1 && ratio.q3 >= 1) || Math.abs(ratio.median - 1) <= spread };
}
