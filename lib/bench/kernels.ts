/**
 * The benchmark of single matrix products.
 */
import { addon } from '../addon.js';
import { TernionError } from '../errors.js';
import type { TensorType } from '../gguf/shape.js';
import type { NativeKernelBench, NativeKernelFacts } from '../native-measuring.js';
import { abortable } from '../task.js';
import { nearest, refuse } from '../validate.js';
import { caches } from './caches.js';
import type { Caches } from './caches.js';
import { placements, readKernelOptions } from './kernel-options.js';
import type { KernelOptions } from './kernel-options.js';
import type { KernelCase, KernelError, KernelFigure, KernelReport } from './kernel-report.js';
import { caseName } from './kernel-report.js';
import { machine, readBandwidth } from './machine.js';
import { alternate, judged, pairedRatio, summarize } from './measure.js';
import type { Summary } from './measure.js';
import { shapeName } from './shapes.js';
import type { MatrixShape } from './shapes.js';

type Missing = KernelReport['missing'][number];

/** What a matrix is measured in: the same weights for several thread counts. */
interface Job extends Omit<KernelCase, 'threads'> {
  readonly threads: readonly number[];
  readonly copies: number;
}

const defaultShape: MatrixShape = { rows: 2560, columns: 2560 };
const cacheColumns = 2048;
const mostProducts = 4096; // in a sample
const mostCopies = 65_536;
// Our kernels differ from the scalar ones by fused multiply-adds alone; activations rounded to 8 bits cost about half a per cent.
const mostFromScalar = 1e-6;
const mostError = 0.03;
// A layout in memory may be larger than the file's.
const packedAtMost = 1.3;

/**
 * Measures products of quantised matrices with activations on the CPU: for every type, shape, number of tokens and of threads, in
 * memory and in cache, upstream's kernels and ours in turn. Results are checked; a wrong kernel gives an error, not a figure.
 * Close other work while it runs; ratios count, bare figures are this machine's.
 *
 * @throws rejects with ERR_INVALID_ARG, ERR_OUT_OF_MEMORY, ERR_ABORTED, and with ERR_INTERNAL for a wrong result.
 */
export async function benchmarkKernels(options: KernelOptions = {}): Promise<KernelReport> {
  return new KernelBenchmark(readKernelOptions(options)).run();
}

class KernelBenchmark {
  readonly #options: KernelOptions;
  readonly #facts: NativeKernelFacts;
  readonly #caches: Caches = caches();
  readonly #threads: readonly number[];
  readonly #kernels: readonly string[];
  readonly #repetitions: number;
  readonly #sampleMs: number;
  readonly #streamBytes: number;
  readonly #figures: KernelFigure[] = [];
  readonly #missing: Missing[] = [];
  readonly #bandwidth = new Map<number, number>();
  #begun = 0; // thread counts of jobs

  constructor(options: KernelOptions) {
    this.#options = options;
    this.#facts = addon().kernels();
    this.#threads = options.threads ?? [...new Set([1, this.#facts.threads])];
    this.#kernels = chosenKernels(options.kernels ?? 'fastest', this.#facts.names);
    this.#repetitions = options.repetitions ?? 20;
    this.#sampleMs = options.sampleMs ?? 5;
    this.#streamBytes = options.streamBytes ?? 4 * this.#caches.lastLevelBytes;
  }

  async run(): Promise<KernelReport> {
    const jobs = [...this.#jobs()];
    const multiplyAdd = new Map<number, number>();
    const instruction = await this.#bounds(multiplyAdd);
    const parts = jobs.reduce((sum, { threads }) => sum + threads.length, 0);
    for (const job of jobs) await this.#measure(job, parts);
    await this.#bounds(multiplyAdd);
    const figures = this.#figures.map((figure) => ({ ...figure, bandwidthShare: this.#share(figure) }));
    return {
      format: 1,
      machine: machine(),
      settings: { repetitions: this.#repetitions, sampleMs: this.#sampleMs, streamBytes: this.#streamBytes, caches: this.#caches },
      readGigabytesPerSecond: Object.fromEntries(this.#bandwidth),
      multiplyAdd: instruction === '' ? null : { instruction, gigaproductsPerSecond: Object.fromEntries(multiplyAdd) },
      figures: figures.filter(({ placement }) => placement !== 'cache'),
      ceilings: figures.filter(({ placement }) => placement === 'cache'),
      missing: this.#missing,
    };
  }

  /** Everything is looked at before anything is measured: what cannot be shall not show after minutes. */
  *#jobs(): Generator<Job> {
    const { types = ['tq1_0', 'tq2_0', 'stq1_0', 'q8_0'], shapes = [defaultShape], tokens: counts = [1, 8] } = this.#options;
    for (const type of types) {
      for (const tokens of counts) {
        for (const shape of shapes) {
          const op = shape.experts === undefined ? 'mul_mat' : 'mul_mat_id';
          const bytes = this.#fileBytes(type, shape);
          for (const placement of this.#options.placements ?? placements) {
            const job = { op, type, ...shape, tokens, placement } as const;
            if (placement === 'streaming') {
              yield this.#fits({ ...job, threads: this.#threads, copies: Math.min(mostCopies, Math.ceil(this.#streamBytes / bytes)) }, bytes);
            } else if (packedAtMost * bytes <= this.#caches.lastLevelBytes / 2) {
              yield this.#fits({ ...job, threads: this.#threads, copies: 1 }, bytes);
            } else {
              this.#missing.push({ ...job, kernels: [], reason: `${bytes} bytes of weights are too many to stay in a last-level cache of ${this.#caches.lastLevelBytes}` });
            }
          }
        }
        for (const threads of this.#threads) yield { op: 'mul_mat', type, ...this.#cacheShape(type, threads), tokens, placement: 'cache', threads: [threads], copies: 1 };
      }
    }
  }

  #fileBytes(type: TensorType, shape: MatrixShape): number {
    const { rows, columns, experts = 1 } = shape;
    const { blockWeights, blockBytes } = this.#block(type);
    if (columns % blockWeights !== 0) {
      refuse('benchmarkKernels', 'options.shapes', `${type} takes rows of a multiple of ${blockWeights} weights; found ${shapeName(shape)}; leave that type or that shape out`);
    }
    return (rows * experts * columns * blockBytes) / blockWeights;
  }

  #block(type: TensorType): NativeKernelFacts['types'][number] {
    const known = this.#facts.types.find(({ name }) => name === type);
    return known ?? refuse('benchmarkKernels', 'options.types', `the addon does not know the type ${type}`);
  }

  /** Half of the second-level caches, in whole groups of rows for each thread. */
  #cacheShape(type: TensorType, threads: number): MatrixShape {
    const { blockWeights, blockBytes } = this.#block(type);
    const groupBytes = (32 * cacheColumns * blockBytes) / blockWeights;
    return { rows: 32 * threads * Math.max(1, Math.floor(this.#caches.l2Bytes / 2 / groupBytes)), columns: cacheColumns };
  }

  #fits(job: Job, bytes: number): Job {
    const systems = this.#facts.names.filter(isUpstreams).length + this.#kernels.length;
    const needed = Math.ceil(packedAtMost * bytes * job.copies * systems);
    const available = process.availableMemory();
    if (needed > available) {
      throw new TernionError('ERR_OUT_OF_MEMORY', `benchmarkKernels: ${caseName(job)} takes up to ${needed} bytes, of which ${available} are available; name fewer kernels or a smaller streamBytes`, { details: { needed, available } });
    }
    return job;
  }

  /** What the machine allows with each number of threads, if that is more than was known; the name of the multiply-add instruction. */
  async #bounds(multiplyAdd: Map<number, number>): Promise<string> {
    const { signal, onProgress } = this.#options;
    const raise = (to: Map<number, number>, threads: number, perSecond: number) => to.set(threads, Math.max(to.get(threads) ?? 0, Number((perSecond / 1e9).toPrecision(4))));
    let name = '';
    for (const threads of this.#threads) {
      onProgress?.(this.#begun > 0 ? 1 : 0, 'bounds');
      raise(this.#bandwidth, threads, await readBandwidth(threads, { signal }));
      const { instruction, productsPerSecond } = await abortable(signal, () => addon().multiplyPeak(threads, null));
      raise(multiplyAdd, threads, productsPerSecond);
      name = instruction;
    }
    return name;
  }

  async #measure({ threads: counts, copies, ...job }: Job, parts: number): Promise<void> {
    const { signal, onProgress } = this.#options;
    const { type, rows, columns, tokens, experts = 0, used = 0 } = job;
    const names = [...this.#facts.names.filter(isUpstreams), ...this.#kernels];
    const what = caseName(job);
    onProgress?.(this.#begun / parts, what);
    const bench = await abortable(signal, () => addon().kernelBench({ type, rows, columns, tokens, experts, used, copies, kernels: names }));
    try {
      // A way of a set is for some types only; who names it is told of the others.
      const named = (name: string): boolean => !name.includes('/') || Array.isArray(this.#options.kernels);
      const without = this.#kernels.filter((name) => named(name) && !bench.systems.some((system) => system.name === name));
      if (without.length > 0 && job.placement !== 'cache') this.#missing.push({ ...job, kernels: without, reason: `they do not multiply ${type}` });
      for (const threads of counts) {
        const done = this.#begun++;
        this.#figures.push(...(await this.#compare(bench, { ...job, threads }, (fraction) => onProgress?.((done + fraction) / parts, what))));
      }
    } finally {
      bench.dispose();
    }
  }

  async #compare(bench: NativeKernelBench, on: KernelCase, onSample: (fraction: number) => void): Promise<KernelFigure[]> {
    const { signal } = this.#options;
    const { threads } = on;
    const base = bench.systems[0]?.name ?? ''; // what llama.cpp would ask first
    const again = `${base}, again`;
    const products = new Map<string, number>();
    const samples = new Map<string, () => Promise<number>>();
    for (const [i, { name }] of bench.systems.entries()) {
      const seconds = (count: number): Promise<number> => abortable(signal, () => bench.sample(i, threads, count));
      const count = await enough(seconds, this.#sampleMs / 1000);
      products.set(name, count);
      samples.set(name, async () => (await seconds(count)) / count);
      if (name === base) samples.set(again, async () => (await seconds(count)) / count);
    }
    // All run on one pool of threads, so there is nothing to wait for between them.
    const { values } = await alternate(samples, this.#repetitions, { signal, settleMs: 0, onSample });
    const of = (name: string): readonly number[] => values.get(name) ?? [];
    const control = pairedRatio(of(base), of(again));
    const figures: KernelFigure[] = [];
    for (const [i, { name, ours, bytes }] of bench.systems.entries()) {
      const error = checked(await abortable(signal, () => bench.error(i, threads)), name, ours, on);
      const weights = on.rows * on.columns * on.tokens * (on.used ?? 1);
      const rate = (amount: number) => quartiles(summarize(of(name).map((seconds) => amount / seconds / 1e9)));
      figures.push({
        ...on, kernels: name, ours, bytes, products: products.get(name) ?? 0,
        weightsPerByte: Number((weights / bytes).toPrecision(5)),
        timeMs: summarize(of(name).map((seconds) => 1000 * seconds)),
        gigaweightsPerSecond: rate(weights),
        gigabytesPerSecond: rate(bytes),
        bandwidthShare: null, // known when the bandwidth is
        error,
        speedup: { to: base, ...judged(name === base ? control : pairedRatio(of(base), of(name)), control) },
      });
    }
    return figures;
  }

  #share({ placement, threads, gigabytesPerSecond }: KernelFigure): number | null {
    return placement === 'streaming' ? Number((gigabytesPerSecond.median / (this.#bandwidth.get(threads) ?? Number.NaN)).toPrecision(4)) : null;
  }
}

const isUpstreams = (name: string): boolean => name.startsWith('upstream');

function chosenKernels(chosen: 'fastest' | 'all' | readonly string[], known: readonly string[]): readonly string[] {
  const ours = known.filter((name) => !isUpstreams(name));
  if (chosen === 'all') return ours;
  if (chosen === 'fastest') return ours.slice(0, 1);
  for (const name of chosen.filter((each) => !known.includes(each))) {
    const near = nearest(name, known);
    refuse('benchmarkKernels', 'options.kernels', `there are no kernels '${name}' on this processor, only ${known.join(', ')}${near === undefined ? '' : `; did you mean '${near}'?`}`);
  }
  return ours.filter((name) => chosen.includes(name));
}

/** So many products that a sample takes long enough for the clock, and for what starts and ends it not to count. */
async function enough(seconds: (count: number) => Promise<number>, wanted: number): Promise<number> {
  let count = 1;
  for (let took = await seconds(count); took < 0.9 * wanted && count < mostProducts; took = await seconds(count)) {
    count = Math.min(mostProducts, Math.ceil(count * Math.min(64, Math.max(1.1, wanted / took))));
  }
  return count;
}

/** @throws ERR_INTERNAL for an error that rounding does not explain. */
export function checked({ fromScalar, ...error }: Omit<KernelError, 'fromScalar'> & { fromScalar: number }, kernels: string, ours: boolean, on: KernelCase): KernelError {
  const where = `benchmarkKernels: ${kernels} computes ${caseName(on)} wrongly with ${on.threads} threads:`;
  if (!(error.rms <= mostError)) throw new TernionError('ERR_INTERNAL', `${where} the error is ${error.rms} of the results, where ${mostError} is the most that rounding explains`);
  if (ours && !(fromScalar <= mostFromScalar)) throw new TernionError('ERR_INTERNAL', `${where} ${fromScalar} from the scalar kernels, where ${mostFromScalar} is allowed`);
  return { ...error, fromScalar: fromScalar < 0 ? null : fromScalar };
}

function quartiles({ median, q1, q3 }: Summary): Pick<Summary, 'median' | 'q1' | 'q3'> {
  return { median, q1, q3 };
}
