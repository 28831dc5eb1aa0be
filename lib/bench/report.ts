/**
 * What a benchmark says, as data.
 */
import type { LoadOptions } from '../load.js';
import type { Machine } from './machine.js';
import type { Ratio, Summary } from './measure.js';

export type Unit = 'tok/s' | 'ms' | 'bytes' | 'J/token';

/** Figures of one system in one test. */
export interface Figure extends Summary {
  /** `prefill 512`, `decode`, `decode at 4096`, `8 sessions`, `import` … */
  readonly test: string;
  readonly system: string;
  readonly unit: Unit;
}

/** How one system compares with another in the rounds of one test. */
export interface Comparison extends Ratio {
  readonly test: string;
  readonly system: string;
  readonly to: string;
}

/** Why a system has no figure for a test. */
export interface Missing {
  readonly test: string;
  readonly system: string;
  readonly reason: string;
}

/** The result of {@link benchmark}: plain data, made for JSON. */
export interface BenchReport {
  readonly format: 1;
  readonly machine: Machine;
  readonly model: {
    readonly name: string;
    readonly file: string;
    readonly bytes: number;
    readonly parameters: number;
    readonly quantization: string;
  };
  readonly settings: {
    readonly devices: readonly string[];
    readonly threads: number;
    readonly gpuLayers: number;
    readonly kv: LoadOptions['kv'];
    readonly rounds: number;
    /** Decoded in a sample: alone, and in each of several sessions. */
    readonly tokens: number;
    readonly sessionTokens: number;
  };
  readonly peers: readonly { readonly name: string; readonly version: string }[];
  /** 10⁹ bytes per second that so many threads read together. */
  readonly readGigabytesPerSecond: Readonly<Record<number, number>>;
  readonly figures: readonly Figure[];
  /** ternion to each other system of the same test, and to itself: the control. */
  readonly ratios: readonly Comparison[];
  readonly missing: readonly Missing[];
}
