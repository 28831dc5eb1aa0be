/**
 * The benchmark of one model.
 */
import { basename } from 'node:path';
import { TernionError } from '../errors.js';
import { refuse } from '../validate.js';
import { whileBusy } from './busy.js';
import { energyUsed, machine, readBandwidth } from './machine.js';
import { alternate, judged, pairedRatio, summarize } from './measure.js';
import type { Sample } from './measure.js';
import type { Peer } from './peer.js';
import type { BenchReport, Comparison, Figure, Missing, Unit } from './report.js';
import { dropFromCache, startup } from './startup.js';
import { Subject } from './subject.js';
import type { SubjectOptions } from './subject.js';

/** The groups of tests. */
export const benchTests = ['startup', 'prefill', 'decode', 'busy', 'sessions', 'abort'] as const;
export type BenchTest = (typeof benchTests)[number];

/** Options of {@link benchmark}. */
export interface BenchOptions extends SubjectOptions {
  /** Which groups to run. Default: all. */
  readonly tests?: readonly BenchTest[] | undefined;
  /** Rounds that count, after one that warms up. Default 5. */
  readonly rounds?: number | undefined;
  /** Prompt lengths. Default 128 and 512. */
  readonly prompts?: readonly number[] | undefined;
  /** Tokens that come before the decoded ones. Default 0, 1024 and 4096. */
  readonly depths?: readonly number[] | undefined;
  /** Tokens to decode in a sample. Default 128. */
  readonly tokens?: number | undefined;
  /** Numbers of sessions that decode together. Default 1, 2, 8 and 16. */
  readonly sessions?: readonly number[] | undefined;
  /** Other systems, measured in the same rounds. */
  readonly peers?: readonly Peer[] | undefined;
  /** Called with the fraction of the group that is done, 0 to 1, and what is measured. */
  readonly onProgress?: ((fraction: number, what: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export const own = 'ternion';
const control = 'ternion, again';
const abortedPrefill = 2000;
const sessionTokens = 64;
const startupTokens = 16;

/**
 * Measures a model: every test alternates between ternion, ternion again (the control, which shows how far equal systems
 * come apart here today) and the peers. Close other work while it runs; ratios count, bare figures are this machine's.
 *
 * @throws rejects with ERR_INVALID_ARG, as {@link loadModel} does, and with ERR_INTERNAL when greedy text differs between two samples, or when a program fails.
 */
export async function benchmark(path: string, options: BenchOptions = {}): Promise<BenchReport> {
  for (const key of ['rounds', 'tokens'] as const) {
    if (options[key] !== undefined) whole(key, options[key], 1);
  }
  for (const [key, minimum] of [['prompts', 1], ['depths', 0], ['sessions', 1]] as const) {
    for (const value of options[key] ?? []) whole(key, value, minimum);
  }
  const unknown = options.tests?.find((test) => !benchTests.includes(test));
  if (unknown !== undefined) refuse('benchmark', 'tests', `there are no tests '${String(unknown)}', only ${benchTests.join(', ')}`);
  return new Benchmark(path, options).run();
}

function whole(key: string, value: number, minimum: number): void {
  if (!Number.isInteger(value) || value < minimum) refuse('benchmark', key, `${key} takes whole numbers of at least ${minimum}; found ${String(value)}`);
}

class Benchmark {
  readonly #figures: Figure[] = [];
  readonly #ratios: Comparison[] = [];
  readonly #missing: Missing[] = [];
  readonly #texts = new Map<string, string>();
  readonly #peers: readonly Peer[];
  readonly #rounds: number;
  readonly #tokens: number;

  constructor(
    readonly path: string,
    readonly options: BenchOptions,
  ) {
    this.#peers = options.peers ?? [];
    this.#rounds = options.rounds ?? 5;
    this.#tokens = options.tokens ?? 128;
  }

  async run(): Promise<BenchReport> {
    const { options, path } = this;
    const tests = new Set(options.tests ?? benchTests);
    const facts = await this.#facts();
    const { threads } = facts.settings;
    const bandwidth: Record<number, number> = {};
    for (const n of new Set([1, threads])) bandwidth[n] = Number(((await readBandwidth(n, options)) / 1e9).toPrecision(3));
    if (tests.has('startup')) await this.#startup();
    const { trainedContext } = facts;
    const single = await this.#open(Math.min(trainedContext, this.#longest()), 1);
    try {
      if (tests.has('prefill')) await this.#prefill(single, trainedContext);
      if (tests.has('decode')) await this.#decode(single, trainedContext);
      if (tests.has('abort')) await this.#abort(single, trainedContext);
      if (tests.has('busy')) await this.#busy(single, threads);
    } finally {
      await single.close();
    }
    if (tests.has('sessions')) await this.#sessions();
    return {
      format: 1,
      machine: machine(),
      model: { ...facts.model, file: basename(path) },
      settings: facts.settings,
      readGigabytesPerSecond: bandwidth,
      figures: this.#figures,
      ratios: this.#ratios,
      missing: this.#missing,
    };
  }

  async #facts() {
    const subject = await this.#open(256, 1);
    const { info, placement } = subject.model;
    await subject.close();
    const devices = placement.devices.filter(({ weightBytes }) => weightBytes > 0).map(({ device }) => device);
    return {
      trainedContext: info.trainedContext || Infinity,
      model: { name: info.name, bytes: info.fileBytes, parameters: info.parameters, quantization: info.quantization },
      settings: { devices, threads: placement.threads, gpuLayers: placement.gpuLayers, rounds: this.#rounds },
    };
  }

  #open(context: number, sequences: number, threads = this.options.threads): Promise<Subject> {
    const { devices, gpuLayers, kv, signal } = this.options;
    return Subject.open(this.path, { devices, gpuLayers, kv, threads, context, sequences, texts: this.#texts, signal });
  }

  #longest(): number {
    return Math.max(abortedPrefill, ...this.#prompts, ...this.#depths.map((depth) => depth + this.#tokens)) + 16;
  }

  get #prompts(): readonly number[] {
    return this.options.prompts ?? [128, 512];
  }

  get #depths(): readonly number[] {
    return this.options.depths ?? [0, 1024, 4096];
  }

  async #startup(): Promise<void> {
    const { devices, gpuLayers, kv, threads, onProgress, signal } = this.options;
    const job = { devices, gpuLayers, kv, threads, path: this.path, context: 2048, tokens: startupTokens };
    const warm = [];
    const cold = [];
    for (let round = 0; round <= this.#rounds; round++) {
      onProgress?.(round / (this.#rounds + 1), 'startup');
      if (signal?.aborted) throw new TernionError('ERR_ABORTED', 'the benchmark was aborted', { cause: signal.reason });
      const result = await startup(job);
      const reason = await dropFromCache(this.path);
      if (reason && round === 0) this.#missing.push({ test: 'load, cold', system: own, reason: reason.reason });
      const dropped = reason ? undefined : await startup(job);
      if (round === 0) continue;
      warm.push(result);
      if (dropped) cold.push(dropped);
    }
    this.#figure('import', own, 'ms', warm.map(({ importMs }) => importMs));
    this.#figure('load, mapped', own, 'ms', warm.map(({ loadMs }) => loadMs));
    if (cold.length > 0) this.#figure('load, cold', own, 'ms', cold.map(({ loadMs }) => loadMs));
    this.#figure('process start to first token', own, 'ms', warm.map(({ firstTokenMs }) => firstTokenMs));
    this.#figure('peak resident memory', own, 'bytes', warm.map(({ peakResidentBytes }) => peakResidentBytes));
  }

  async #prefill(subject: Subject, limit: number): Promise<void> {
    for (const tokens of this.#prompts) {
      if (!this.#fits(`prefill ${tokens}`, tokens + 1, limit)) continue;
      const own = () => subject.prefill(tokens);
      await this.#compare(`prefill ${tokens}`, own, (peer) => peer.prefill && (() => peer.prefill!(tokens)));
    }
  }

  async #decode(subject: Subject, limit: number): Promise<void> {
    for (const depth of this.#depths) {
      const test = depth === 0 ? 'decode' : `decode at ${depth}`;
      if (!this.#fits(test, depth + this.#tokens + 1, limit)) continue;
      const joules: number[] = [];
      const sample = async (): Promise<number> => {
        const before = energyUsed();
        const rate = await subject.decode(this.#tokens, depth);
        const after = energyUsed();
        if (depth === 0 && before !== undefined && after !== undefined && after > before) joules.push((after - before) / this.#tokens);
        return rate;
      };
      await this.#compare(test, sample, (peer) => peer.decode && (() => peer.decode!(this.#tokens, depth)));
      if (joules.length > 0) this.#figure(test, own, 'J/token', joules);
    }
  }

  // The engine's clock on both sides: what is asked is whether a busy main thread slows the engine.
  async #busy(subject: Subject, threads: number): Promise<void> {
    const one = threads === 1 ? subject : await this.#open(this.#tokens + 16, 1, 1);
    const systems = new Map<string, Sample>([
      ['1 thread', () => one.decodeInEngine(this.#tokens)],
      ['1 thread, again', () => one.decodeInEngine(this.#tokens)],
      ['1 thread, main thread busy', () => whileBusy(() => one.decodeInEngine(this.#tokens))],
    ]);
    if (one !== subject) systems.set(`${threads} threads, main thread busy`, () => whileBusy(() => subject.decodeInEngine(this.#tokens)));
    try {
      await this.#alternate('decode beside a busy main thread', systems, '1 thread', '1 thread, again', true);
    } finally {
      if (one !== subject) await one.close();
    }
  }

  async #sessions(): Promise<void> {
    const counts = this.options.sessions ?? [1, 2, 8, 16];
    if (counts.length === 0) return;
    const subject = await this.#open(sessionTokens + 16, Math.max(...counts));
    try {
      for (const count of counts) {
        const own = () => subject.together(count, sessionTokens);
        await this.#compare(`${count} session${count === 1 ? '' : 's'}`, own, (peer) => peer.sessions && (() => peer.sessions!(count, sessionTokens)));
      }
    } finally {
      await subject.close();
    }
  }

  async #abort(subject: Subject, limit: number): Promise<void> {
    const test = `abort during a prefill of ${abortedPrefill}`;
    if (!this.#fits(test, abortedPrefill + 1, limit)) return;
    const samples = await alternate(new Map([[own, () => subject.abort(abortedPrefill)]]), this.#rounds, this.#watch(test));
    this.#figure(test, own, 'ms', samples.values.get(own) ?? []);
  }

  #fits(test: string, context: number, limit: number): boolean {
    if (context <= limit) return true;
    this.#missing.push({ test, system: own, reason: `the model was trained for ${limit} tokens` });
    return false;
  }

  async #compare(test: string, sample: Sample, ofPeer: (peer: Peer) => Sample | undefined): Promise<void> {
    const systems = new Map<string, Sample>([[own, sample], [control, sample]]);
    for (const peer of this.#peers) {
      const theirs = ofPeer(peer);
      if (theirs) systems.set(peer.name, theirs);
    }
    await this.#alternate(test, systems, own, control, false);
  }

  /** `inverted`: ratios are of the others to `base`, not of `base` to the others. */
  async #alternate(test: string, systems: ReadonlyMap<string, Sample>, base: string, again: string, inverted: boolean): Promise<void> {
    const { values, skipped } = await alternate(systems, this.#rounds, this.#watch(test));
    for (const [system, reason] of skipped) this.#missing.push({ test, system, reason });
    const reference = values.get(base) ?? [];
    const spread = pairedRatio(values.get(again) ?? [], reference);
    for (const [system, samples] of values) {
      this.#figure(test, system, 'tok/s', samples);
      if (system === base) continue;
      const flip = inverted || system === again;
      const ratio = flip ? pairedRatio(samples, reference) : pairedRatio(reference, samples);
      this.#ratios.push({ test, system: flip ? system : base, to: flip ? base : system, ...judged(ratio, spread) });
    }
  }

  #watch(test: string) {
    const { signal, onProgress } = this.options;
    return { signal, onSample: (fraction: number) => onProgress?.(fraction, test) };
  }

  #figure(test: string, system: string, unit: Unit, samples: readonly number[]): void {
    this.#figures.push({ test, system, unit, ...summarize(samples) });
  }
}
