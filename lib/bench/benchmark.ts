/**
 * The benchmark of one model.
 */
import { basename } from 'node:path';
import type { LoadOptions } from '../load.js';
import { refuse } from '../validate.js';
import { whileBusy } from './busy.js';
import { energyUsed, machine, readBandwidth } from './machine.js';
import type { Sample } from './measure.js';
import type { Peer } from './peer.js';
import { Recorder, control, own } from './recorder.js';
import type { BenchReport } from './report.js';
import { dropFromCache, startup, startupContext, startupTokens } from './startup.js';
import { Subject } from './subject.js';
import type { SubjectOptions } from './subject.js';

/** The groups of tests. */
export const benchTests = ['startup', 'prefill', 'decode', 'abort', 'busy', 'sessions'] as const;
export type BenchTest = (typeof benchTests)[number];

/** What ternion runs with, for peers to be given the same. */
export interface PeerSettings {
  readonly path: string;
  readonly threads: number;
  readonly devices: readonly string[];
  readonly gpuLayers: number;
  readonly kv: LoadOptions['kv'];
}

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
  /** Tokens that each of several sessions decodes in a sample. Default 64. */
  readonly sessionTokens?: number | undefined;
  /** Numbers of sessions that decode together. Default 1, 2, 8 and 16. */
  readonly sessions?: readonly number[] | undefined;
  /** Opens the systems that are measured in the same rounds; called once ternion's start has been measured. They are closed at the end. */
  readonly peers?: ((settings: PeerSettings) => readonly Peer[] | Promise<readonly Peer[]>) | undefined;
  /** Called with the fraction of a test that is done, 0 to 1, and the test's name. */
  readonly onProgress?: ((fraction: number, what: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

const abortedPrefill = 2000;

/**
 * Measures a model: every test alternates between ternion, ternion again (the control) and the peers. Close other work
 * while it runs; ratios count, bare figures are this machine's.
 *
 * @throws rejects with ERR_INVALID_ARG, as {@link loadModel} does, and with ERR_INTERNAL when greedy text differs between
 * two samples or a program fails.
 */
export async function benchmark(path: string, options: BenchOptions = {}): Promise<BenchReport> {
  for (const key of ['rounds', 'tokens', 'sessionTokens'] as const) {
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
  readonly #texts = new Map<string, string>();
  readonly #recorder: Recorder;
  readonly #rounds: number;
  readonly #tokens: number;
  readonly #sessionTokens: number;
  #trained = 0;
  #peers: readonly Peer[] = [];

  constructor(
    readonly path: string,
    readonly options: BenchOptions,
  ) {
    this.#rounds = options.rounds ?? 5;
    this.#tokens = options.tokens ?? 128;
    this.#sessionTokens = options.sessionTokens ?? 64;
    this.#recorder = new Recorder({ rounds: this.#rounds, signal: options.signal, onProgress: options.onProgress });
  }

  async run(): Promise<BenchReport> {
    const { options, path } = this;
    const tests = new Set(options.tests ?? benchTests);
    const { model, settings } = await this.#facts();
    const { threads, devices, gpuLayers } = settings;
    const bandwidth: Record<number, number> = {};
    for (const n of new Set([1, threads])) bandwidth[n] = Number(((await readBandwidth(n, options)) / 1e9).toPrecision(3));
    // Before anything else maps the file or takes memory.
    if (tests.has('startup')) await this.#startup();
    this.#peers = (await options.peers?.({ path, threads, devices, gpuLayers, kv: options.kv })) ?? [];
    try {
      const names = [own, control, ...this.#peers.map(({ name }) => name)];
      const twice = names.find((name, i) => names.indexOf(name) < i);
      if (twice !== undefined) refuse('benchmark', 'peers', `two systems are called '${twice}'`);
      if (tests.has('prefill') || tests.has('decode') || tests.has('abort')) await this.#alone(tests);
      if (tests.has('busy')) await this.#busy(devices.every((id) => id === 'cpu') ? threads : 1);
      if (tests.has('sessions')) await this.#sessions();
    } finally {
      for (const peer of this.#peers) await peer.close?.();
    }
    return {
      format: 1,
      machine: machine(),
      model: { ...model, file: basename(path) },
      settings: { ...settings, kv: options.kv ?? 'f16', rounds: this.#rounds, tokens: this.#tokens, sessionTokens: this.#sessionTokens },
      peers: this.#peers.map(({ name, version }) => ({ name, version: version ?? 'unknown' })),
      readGigabytesPerSecond: bandwidth,
      figures: this.#recorder.figures,
      ratios: this.#recorder.ratios,
      missing: this.#recorder.missing,
    };
  }

  async #facts() {
    const { info, placement } = await this.#with(256, 1, (subject) => Promise.resolve(subject.model));
    this.#trained = info.trainedContext || Infinity;
    const devices = placement.devices.filter(({ weightBytes }) => weightBytes > 0).map(({ device }) => device);
    return {
      model: { name: info.name, bytes: info.fileBytes, parameters: info.parameters, quantization: info.quantization },
      settings: { devices, threads: placement.threads, gpuLayers: placement.gpuLayers },
    };
  }

  async #with<T>(context: number, sequences: number, work: (subject: Subject) => Promise<T>, threads = this.options.threads): Promise<T> {
    const { devices, gpuLayers, kv, signal } = this.options;
    const subject = await Subject.open(this.path, { devices, gpuLayers, kv, threads, context, sequences, texts: this.#texts, signal });
    try {
      return await work(subject);
    } finally {
      await subject.close();
    }
  }

  async #startup(): Promise<void> {
    const { devices, gpuLayers, kv, threads, onProgress, signal } = this.options;
    const job = { devices, gpuLayers, kv, threads, path: this.path, context: startupContext, tokens: startupTokens };
    const warm = [];
    const cold = [];
    for (let round = 0; round <= this.#rounds; round++) {
      onProgress?.(round / (this.#rounds + 1), 'startup');
      const result = await startup(job, signal);
      const reason = await dropFromCache(this.path);
      if (reason && round === 0) this.#recorder.miss('load, cold', own, reason.reason);
      const dropped = reason ? undefined : await startup(job, signal);
      if (round === 0) continue;
      warm.push(result);
      if (dropped) cold.push(dropped);
    }
    this.#recorder.figure('import', own, 'ms', warm.map(({ importMs }) => importMs));
    this.#recorder.figure('load, mapped', own, 'ms', warm.map(({ loadMs }) => loadMs));
    if (cold.length > 0) this.#recorder.figure('load, cold', own, 'ms', cold.map(({ loadMs }) => loadMs));
    this.#recorder.figure('process start to first token', own, 'ms', warm.map(({ firstTokenMs }) => firstTokenMs));
    this.#recorder.figure('peak resident memory', own, 'bytes', warm.map(({ peakResidentBytes }) => peakResidentBytes));
  }

  async #alone(tests: ReadonlySet<BenchTest>): Promise<void> {
    const prompts = tests.has('prefill') ? (this.options.prompts ?? [128, 512]).filter((tokens) => this.#fits(`prefill ${tokens}`, tokens + 1)) : [];
    const depths = tests.has('decode') ? (this.options.depths ?? [0, 1024, 4096]).filter((depth) => this.#fits(decodeAt(depth), depth + this.#tokens + 1)) : [];
    const aborted = tests.has('abort') && this.#fits(`abort during a prefill of ${abortedPrefill}`, abortedPrefill + 1);
    const longest = Math.max(0, ...prompts, ...depths.map((depth) => depth + this.#tokens), aborted ? abortedPrefill : 0);
    if (longest === 0) return;
    await this.#with(Math.min(this.#trained, longest + 16), 1, async (subject) => {
      for (const tokens of prompts) await this.#recorder.compare(`prefill ${tokens}`, () => subject.prefill(tokens), this.#peers, (peer) => peer.prefill && (() => peer.prefill!(tokens)));
      for (const depth of depths) await this.#decode(subject, depth);
      if (aborted) await this.#abort(subject);
    });
  }

  async #decode(subject: Subject, depth: number): Promise<void> {
    const joules: number[] = [];
    const sample = async (): Promise<number> => {
      const before = energyUsed();
      const rate = await subject.decode(this.#tokens, depth);
      const after = energyUsed();
      // At depth the sample has a prefill in it. The counter wraps now and then.
      if (depth === 0 && before !== undefined && after !== undefined && after > before) joules.push((after - before) / this.#tokens);
      return rate;
    };
    await this.#recorder.compare(decodeAt(depth), sample, this.#peers, (peer) => peer.decode && (() => peer.decode!(this.#tokens, depth)));
    if (joules.length > 2) this.#recorder.figure(decodeAt(depth), own, 'J/token', joules.slice(2)); // the first two warmed up
  }

  async #abort(subject: Subject): Promise<void> {
    const test = `abort during a prefill of ${abortedPrefill}`;
    const { values, skipped } = await this.#recorder.sample(test, new Map([[own, () => subject.abort(abortedPrefill)]]));
    for (const [system, reason] of skipped) this.#recorder.miss(test, system, reason);
    for (const [system, samples] of values) this.#recorder.figure(test, system, 'ms', samples);
  }

  // The engine's clock on both sides: what is asked is whether a busy main thread slows the engine. More CPU threads are
  // measured where the CPU computes; elsewhere they would only take a second copy of the model.
  async #busy(threads: number): Promise<void> {
    const test = 'decode beside a busy main thread';
    const context = this.#tokens + 16;
    if (!this.#fits(test, context)) return;
    const measure = (one: Subject, all: Subject | undefined): Promise<void> => {
      const systems = new Map<string, Sample>([
        ['1 thread', () => one.decodeInEngine(this.#tokens)],
        ['1 thread, again', () => one.decodeInEngine(this.#tokens)],
        ['1 thread, main thread busy', () => whileBusy(() => one.decodeInEngine(this.#tokens))],
      ]);
      if (all) systems.set(`${threads} threads, main thread busy`, () => whileBusy(() => all.decodeInEngine(this.#tokens)));
      return this.#recorder.alternate(test, systems, '1 thread', '1 thread, again', true);
    };
    await this.#with(context, 1, (one) => (threads === 1 ? measure(one, undefined) : this.#with(context, 1, (all) => measure(one, all))), 1);
  }

  async #sessions(): Promise<void> {
    const counts = this.options.sessions ?? [1, 2, 8, 16];
    const tokens = this.#sessionTokens;
    if (counts.length === 0 || !this.#fits('sessions', tokens + 1)) return;
    await this.#with(tokens + 16, Math.max(...counts), async (subject) => {
      for (const count of counts) {
        const test = `${count} session${count === 1 ? '' : 's'}`;
        await this.#recorder.compare(test, () => subject.together(count, tokens), this.#peers, (peer) => peer.sessions && (() => peer.sessions!(count, tokens)));
      }
    });
  }

  #fits(test: string, context: number): boolean {
    if (context <= this.#trained) return true;
    this.#recorder.miss(test, own, `the model was trained for ${this.#trained} tokens`);
    return false;
  }
}

function decodeAt(depth: number): string {
  return depth === 0 ? 'decode' : `decode at ${depth}`;
}
