/**
 * What a benchmark of kernels says, as data and as text.
 */
import type { Caches } from './caches.js';
import type { Placement } from './kernel-options.js';
import type { Machine } from './machine.js';
import type { Ratio, Summary } from './measure.js';
import { shapeName } from './shapes.js';
import type { MatrixShape } from './shapes.js';
import { printable } from './table.js';

/** A {@link Summary} without its samples: those of a rate follow from those of the time. */
export type Quartiles = Pick<Summary, 'median' | 'q1' | 'q3'>;

/** What is multiplied, and how. */
export interface KernelCase extends MatrixShape {
  readonly op: 'mul_mat' | 'mul_mat_id';
  readonly type: string;
  readonly tokens: number;
  readonly threads: number;
  /** `cache`: a small matrix that fits the second-level caches of the threads, for the rate that the kernel could reach at best. */
  readonly placement: Placement | 'cache';
}

/** One kernel in one case. */
export interface KernelFigure extends KernelCase {
  /** `upstream`, `upstream-repack` …, or the name of ours. */
  readonly kernels: string;
  readonly ours: boolean;
  /** That a product reads of the weights, as they lie in memory. */
  readonly bytes: number;
  /** Weights multiplied per byte that is read: `tokens` times the weights in a byte. */
  readonly weightsPerByte: number;
  /** Products in a sample. */
  readonly products: number;
  /** Of one product. */
  readonly timeMs: Summary;
  /** 10⁹ weights multiplied per second: rows · columns · tokens (· experts of a token) / time. */
  readonly gigaweightsPerSecond: Quartiles;
  /** 10⁹ bytes of weights per second. */
  readonly gigabytesPerSecond: Quartiles;
  /** Of the memory's read bandwidth with so many threads; null where the weights do not come from memory. */
  readonly bandwidthShare: number | null;
  readonly error: KernelError;
  /** Times as fast as what llama.cpp would use by itself, in the same rounds; for that itself: a second run of it, the control. */
  readonly speedup: Ratio & { readonly to: string };
}

/** Of results that are spread evenly over the whole, against the file's weights times unrounded activations in double precision. */
export interface KernelError {
  /** Results that were compared. */
  readonly outputs: number;
  /** Root mean square of the differences, relative to that of the exact results. */
  readonly rms: number;
  /** The largest difference, relative to the largest exact result. */
  readonly largest: number;
  /** The largest difference from our scalar kernels, relative to their largest result; null where they do not take the type. */
  readonly fromScalar: number | null;
}

/** The result of {@link benchmarkKernels}: plain data, made for JSON. */
export interface KernelReport {
  readonly format: 1;
  readonly machine: Machine;
  readonly settings: { readonly repetitions: number; readonly sampleMs: number; readonly streamBytes: number; readonly caches: Caches };
  /** 10⁹ bytes per second that so many threads read together: the better of a measurement before and one after everything else. */
  readonly readGigabytesPerSecond: Readonly<Record<number, number>>;
  /** 10⁹ 8-bit multiply-adds per second of so many threads, on registers alone, likewise the better; null where no instruction for it is known. */
  readonly multiplyAdd: { readonly instruction: string; readonly gigaproductsPerSecond: Readonly<Record<number, number>> } | null;
  readonly figures: readonly KernelFigure[];
  /** The same kernels in the caches nearest to the cores: what bounds them when memory does not. */
  readonly ceilings: readonly KernelFigure[];
  readonly missing: readonly (Omit<KernelCase, 'threads'> & { readonly kernels: readonly string[]; readonly reason: string })[];
}

/** `tq2_0 6912x2560, 1 token, streaming` */
export function caseName({ type, tokens, placement, ...shape }: Omit<KernelCase, 'threads' | 'op'>): string {
  return `${type} ${shapeName(shape)}, ${tokens} token${tokens === 1 ? '' : 's'}, ${placement}`;
}

const digits = (value: number): string => value.toLocaleString('en', { maximumSignificantDigits: 3 });
const percent = (value: number): string => `${digits(100 * value)} %`;
const threadCount = (n: number | string): string => `${n} thread${Number(n) === 1 ? '' : 's'}`;

/** A report for a terminal: a block per case, a line per kernel and thread count. */
export function kernelTable(report: KernelReport): string {
  const { machine, settings, readGigabytesPerSecond, multiplyAdd } = report;
  const each = (rates: Readonly<Record<number, number>>, unit: string): string => Object.entries(rates).map(([threads, rate]) => `${digits(rate)} ${unit} with ${threadCount(threads)}`).join(', ');
  const { caches } = settings;
  const lines = [
    `${printable(machine.cpu)} · ${machine.cores} cores · memory reads ${each(readGigabytesPerSecond, 'GB/s')}`,
    ...(multiplyAdd === null ? [] : [`${multiplyAdd.instruction}: ${each(multiplyAdd.gigaproductsPerSecond, 'G/s')}`]),
    `caches${caches.known ? '' : ' (guessed)'}: ${mebibytes(caches.l2Bytes)} L2 per core, ${mebibytes(caches.lastLevelBytes)} last level · streaming over ${mebibytes(settings.streamBytes)}`,
    `medians of ${settings.repetitions} samples (quartiles) · Node ${machine.node}`,
  ];
  const all = [...report.figures, ...report.ceilings];
  for (const name of new Set(all.map(caseNameOf))) {
    const rows = all.filter((figure) => caseNameOf(figure) === name);
    lines.push('', name, heading, ...rows.map(row));
  }
  if (report.missing.length > 0) lines.push('');
  for (const { kernels, reason, ...missing } of report.missing) lines.push(`${caseName(missing)}: not measured${kernels.length > 0 ? ` with ${kernels.join(', ')}` : ''}: ${reason}`);
  return lines.join('\n');
}

// The small matrix of a ceiling is another one for each thread count; what it stands for is not.
function caseNameOf(figure: KernelFigure): string {
  return figure.placement === 'cache' ? `${figure.type}, ${figure.tokens} token${figure.tokens === 1 ? '' : 's'}, in the nearest caches` : caseName(figure);
}

const mebibytes = (bytes: number): string => `${digits(bytes / 2 ** 20)} MiB`;

const columns = [9, 18, 30, 12, 9, 10, 10] as const;
const heading = line(['threads', 'kernels', 'time', 'Gweights/s', 'GB/s', 'of memory', 'error'], 'speed-up');

function row({ threads, kernels, timeMs, gigaweightsPerSecond, gigabytesPerSecond, bandwidthShare, error, speedup }: KernelFigure): string {
  const { median, q1, q3 } = timeMs;
  const micro = (ms: number): string => digits(1000 * ms);
  return line(
    [String(threads), kernels, `${micro(median)} µs (${micro(q1)} to ${micro(q3)})`, digits(gigaweightsPerSecond.median), digits(gigabytesPerSecond.median), bandwidthShare === null ? '' : percent(bandwidthShare), percent(error.rms)],
    speedup.to === kernels ? 'again: ' + ratio(speedup) : `${ratio(speedup)} × ${speedup.to}${speedup.tie ? ', a tie' : ''}`,
  );
}

function ratio({ median, q1, q3 }: Ratio): string {
  return `${median.toFixed(2)} (${q1.toFixed(2)} to ${q3.toFixed(2)})`;
}

// The first two columns begin at the left, the others end at the right.
function line(cells: readonly string[], last: string): string {
  return `  ${cells.map((cell, i) => (i < 2 ? cell.padEnd(columns[i] ?? 0) : cell.padStart(columns[i] ?? 0))).join('')}   ${last}`;
}
