/**
 * Where the samples of a benchmark become figures, ratios and reasons.
 */
import { TernionError } from '../errors.js';
import { Skipped, alternate, judged, pairedRatio, summarize } from './measure.js';
import type { Sample } from './measure.js';
import type { Peer } from './peer.js';
import type { Comparison, Figure, Missing, Unit } from './report.js';

/** The system that a report is about, and the same once more: how far equal systems come apart here today. */
export const own = 'ternion';
export const control = 'ternion, again';

export interface Watch {
  readonly rounds: number;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((fraction: number, what: string) => void) | undefined;
}

export class Recorder {
  readonly figures: Figure[] = [];
  readonly ratios: Comparison[] = [];
  readonly missing: Missing[] = [];
  readonly #watch: Watch;

  constructor(watch: Watch) {
    this.#watch = watch;
  }

  figure(test: string, system: string, unit: Unit, samples: readonly number[]): void {
    this.figures.push({ test, system, unit, ...summarize(samples) });
  }

  miss(test: string, system: string, reason: string): void {
    this.missing.push({ test, system, reason });
  }

  /** Alternates ternion, ternion again and the peers that can do the test: those for which `ofPeer` gives a sample. */
  async compare(test: string, sample: Sample, peers: readonly Peer[], ofPeer: (peer: Peer) => Sample | undefined): Promise<void> {
    const systems = new Map<string, Sample>([[own, sample], [control, sample]]);
    for (const peer of peers) {
      const theirs = ofPeer(peer);
      if (theirs === undefined) continue;
      systems.set(peer.name, async () => {
        const value = await theirs();
        if (value instanceof Skipped || (Number.isFinite(value) && value > 0)) return value;
        throw new TernionError('ERR_INTERNAL', `${peer.name} gave no figure for ${test}: ${value}`);
      });
    }
    await this.alternate(test, systems, own, control, false);
  }

  /** `inverted`: ratios are of the others to `base`, not of `base` to the others. */
  async alternate(test: string, systems: ReadonlyMap<string, Sample>, base: string, again: string, inverted: boolean): Promise<void> {
    const { values, skipped } = await this.sample(test, systems);
    for (const [system, reason] of skipped) this.miss(test, system, reason);
    const reference = values.get(base) ?? [];
    const spread = pairedRatio(values.get(again) ?? [], reference);
    for (const [system, samples] of values) {
      this.figure(test, system, 'tok/s', samples);
      if (system === base) continue;
      const flip = inverted || system === again;
      const ratio = flip ? pairedRatio(samples, reference) : pairedRatio(reference, samples);
      this.ratios.push({ test, system: flip ? system : base, to: flip ? base : system, ...judged(ratio, spread) });
    }
  }

  sample(test: string, systems: ReadonlyMap<string, Sample>) {
    const { rounds, signal, onProgress } = this.#watch;
    return alternate(systems, rounds, { signal, onSample: (fraction) => onProgress?.(fraction, test) });
  }
}
