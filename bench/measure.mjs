// Samples of several systems, taken in turns, and what is said of them.

/**
 * Takes `repeats` rounds; each round takes one sample of every system, in order. The first round warms up and is dropped.
 * @param {Record<string, () => Promise<number>>} systems  a sample each, in units per second
 * @param {{ repeats: number, onRound?: (round: number) => void }} options
 * @returns {Promise<Record<string, number[]>>}
 */
export async function alternate(systems, { repeats, onRound }) {
  const samples = Object.fromEntries(Object.keys(systems).map((name) => [name, []]));
  for (let round = 0; round <= repeats; round++) {
    onRound?.(round);
    for (const [name, sample] of Object.entries(systems)) {
      const value = await sample();
      if (round > 0) samples[name].push(value);
    }
  }
  return samples;
}

const rounded = (value) => Number(value.toPrecision(5));

/** @param {number[]} values */
export function summary(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (q) => {
    const place = q * (sorted.length - 1);
    const low = Math.floor(place);
    const high = Math.ceil(place);
    return sorted[low] + (sorted[high] - sorted[low]) * (place - low);
  };
  const [median, min, max] = [at(0.5), at(0), at(1)].map(rounded);
  return { median, min, max, samples: values.map(rounded) };
}

/**
 * Median of the ratios of samples that were taken in the same round, so that what changes slowly (clocks, memory,
 * neighbours) is in both.
 */
export function ratio(numerator, denominator) {
  return summary(numerator.map((value, i) => value / denominator[i]));
}
