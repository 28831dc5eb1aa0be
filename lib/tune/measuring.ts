/**
 * Speeds of a model with several settings, sampled in turns, each sample in a process of its own.
 */
import { fileURLToPath } from 'node:url';
import { addon } from '../addon.js';
import { Skipped, alternate, judged, pairedRatio, summarize } from '../bench/measure.js';
import type { Ratio, Sample, Summary } from '../bench/measure.js';
import { needsGpu } from '../devices.js';
import { TernionError, fromNative, isTernionError } from '../errors.js';
import { recall, remember } from '../measured.js';
import { planFor } from '../plan/plan.js';
import type { Plan } from '../plan/plan.js';
import type { NativeDevice } from '../native.js';
import type { PlanRequest } from '../plan/request.js';
import { findingKey, startAllowanceMs } from '../probe/identity.js';
import { maybeOthers, outOfPatience } from '../probe/passing.js';
import { limitsOf, outcomes, runProbe } from '../probe/run.js';
import type { ProbeOutcome, ProbeEnd } from '../probe/run.js';
import type { Speed, SpeedJob, SpeedSettings } from './child.js';

/** What tuning is told in common. */
export interface MeasuringOptions {
  /** Tokens of the longest conversation. Default: 4096, or the trained context if that is shorter. */
  readonly context?: number | undefined;
  /** Tokens to prefill in a sample. Default 1024, or what the context has room for. */
  readonly prompt?: number | undefined;
  /** Tokens to decode behind them. Default 64. */
  readonly tokens?: number | undefined;
  /** Rounds that count, after one that warms up. Default 5. */
  readonly rounds?: number | undefined;
  /** For each sample. Default: some minutes to load, depending on the file's size, then twenty times what its warming up lets expect. */
  readonly probeTimeoutMs?: number | undefined;
  /** Measure again, whatever was measured before. What crashed or hung is not repeated even so, unless this is `'all'`. Default false. */
  readonly fresh?: boolean | 'all' | undefined;
  /** Called with the fraction that is done, 0 to 1, and what of. */
  readonly onProgress?: ((fraction: number, what: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Speeds with some settings, in tokens per second, and their ratios to those with the default ones in the same rounds. */
export interface SpeedFigure {
  /** Beside the default ones. */
  readonly settings: SpeedSettings;
  readonly prefill: Summary;
  readonly decode: Summary;
  readonly prefillRatio: Ratio;
  readonly decodeRatio: Ratio;
}

/** Why there is no figure for some settings. */
export interface SpeedMissing {
  readonly settings: SpeedSettings;
  readonly reason: string;
  /** How the process ended, where one was started: settings that crashed or hung are not tried again. */
  readonly outcome?: ProbeOutcome | undefined;
}

/** The figures of one series of rounds. */
export interface Series {
  readonly figures: readonly SpeedFigure[];
  readonly missing: readonly SpeedMissing[];
  readonly base: Pick<SpeedFigure, 'prefill' | 'decode'>;
  /** Of the default settings to themselves: what lies within its spread is a tie. */
  readonly control: { readonly prefill: Summary; readonly decode: Summary };
}

export const speedScript = fileURLToPath(new URL('./child.js', import.meta.url));
const pointKind = 'tune-point';

export class Measuring {
  /** What the default settings come to. */
  readonly plan: Plan;
  readonly context: number;
  readonly prompt: number;
  readonly tokens: number;
  readonly rounds: number;
  #lasting = true;

  private constructor(readonly path: string, private readonly base: SpeedSettings, private readonly options: MeasuringOptions, private readonly child: string, private readonly identity: string, private readonly known: readonly NativeDevice[], plan: Plan) {
    this.plan = plan;
    this.context = plan.context;
    this.tokens = Math.min(options.tokens ?? 64, Math.max(2, plan.context >> 1));
    this.prompt = Math.min(options.prompt ?? 1024, Math.max(1, plan.context - this.tokens - 1));
    this.rounds = options.rounds ?? 5;
  }

  /** Rejects as a plan does; ERR_PLAN_DOES_NOT_FIT where the default settings do not fit. */
  static async open(path: string, base: SpeedSettings, options: MeasuringOptions, child: string): Promise<Measuring> {
    const plan = await planned(path, base, options.context, options.signal);
    if (!plan.fits) throw new TernionError('ERR_PLAN_DOES_NOT_FIT', `tuning: ${plan.reasons.at(-1)?.message ?? 'the model does not fit'}`, { details: { shortages: plan.shortages } });
    const devices = { devices: plan.devices, ...(plan.devices.some((id) => id !== 'cpu') && { gpuLayers: plan.gpuLayers, experts: plan.experts, allowFallback: plan.allowFallback }) };
    return new Measuring(path, { ...base, ...devices }, options, child, await addon().fingerprint(path), await knownDevices(plan.devices), plan);
  }

  /** What decides a figure, without the settings that are chosen between. */
  get key(): object {
    return { ...this.#keyOf({}), threads: this.plan.threads, context: this.context, prompt: this.prompt, tokens: this.tokens, rounds: this.rounds };
  }

  /** Whether what was found is for later calls too: nothing is missing because the caller's `probeTimeoutMs` was over. */
  get lasting(): boolean {
    return this.#lasting;
  }

  /** The default settings with those of a point in their place. */
  with(settings: SpeedSettings): SpeedSettings {
    return { ...this.base, ...settings };
  }

  /** Samples the default settings, the same again, and all of `points`. */
  async series(points: readonly SpeedSettings[], what: string): Promise<Series> {
    const missing: SpeedMissing[] = [];
    const speeds = new Map<SpeedSettings, Speed[]>();
    const [first, again]: SpeedSettings[] = [{}, {}];
    const systems = new Map<string, Sample>();
    const named: SpeedSettings[] = [first!, again!, ...points];
    for (const [i, point] of named.entries()) {
      const unfit = i < 2 ? undefined : await this.#unfit(point);
      if (unfit !== undefined) {
        missing.push({ settings: point, reason: unfit });
        continue;
      }
      speeds.set(point, []);
      systems.set(String(i), async () => {
        const { end, speed } = await this.#sample(point, speeds.get(point)!);
        if (speed !== undefined) return speed.decode;
        if (i < 2) throw new TernionError('ERR_INTERNAL', `tuning: a sample with the default settings ${end.outcome}: ${end.message}`, { details: { ...end } });
        missing.push({ settings: point, reason: end.message, outcome: end.outcome });
        return new Skipped(end.message);
      });
    }
    const { skipped } = await alternate(systems, this.rounds, { signal: this.options.signal, onSample: (fraction) => this.options.onProgress?.(fraction, what), settleMs: 0 });
    const of = (point: SpeedSettings, test: 'prefill' | 'decode') => speeds.get(point)!.slice(1).map((speed) => speed[test]);
    const ratio = (point: SpeedSettings, test: 'prefill' | 'decode') => pairedRatio(of(point, test), of(first!, test));
    const control = { prefill: ratio(again!, 'prefill'), decode: ratio(again!, 'decode') };
    const figures = named.flatMap((point, i): SpeedFigure[] => {
      if (i < 2 || !systems.has(String(i)) || skipped.has(String(i))) return [];
      return [{
        settings: point,
        prefill: summarize(of(point, 'prefill')), decode: summarize(of(point, 'decode')),
        prefillRatio: judged(ratio(point, 'prefill'), control.prefill), decodeRatio: judged(ratio(point, 'decode'), control.decode),
      }];
    });
    return { figures, missing, control, base: { prefill: summarize(of(first!, 'prefill')), decode: summarize(of(first!, 'decode')) } };
  }

  async #sample(point: SpeedSettings, before: Speed[]): Promise<{ end: ProbeEnd; speed: Speed | undefined }> {
    const { path, context, prompt, tokens } = this;
    const key = { ...this.#keyOf(point), threads: this.with(point).threads ?? this.plan.threads, context, prompt, tokens };
    const bad = this.options.fresh === 'all' ? undefined : asEnd(await recall(pointKind, key));
    if (bad !== undefined) return { end: { ...bad, message: `${bad.message} (found before, and not repeated)` }, speed: undefined };
    const job: SpeedJob = { path, context, prompt, tokens, load: this.with(point) };
    const run = () => runProbe({ script: this.child, job, limits: limitsOf(this.known, this.plan.devices), startMs: startAllowanceMs(this.plan.model.fileBytes), timeoutMs: this.options.probeTimeoutMs, signal: this.options.signal });
    let { end, result } = await run();
    if (maybeOthers(end)) ({ end, result } = await run());
    const speed = end.outcome === 'works' ? (result as Speed) : undefined;
    if (speed === undefined) {
      if (outOfPatience(end, this.options.probeTimeoutMs)) this.#lasting = false;
      else if (end.outcome !== 'failed') await remember(pointKind, key, end); // an error is told without harm, so it may be asked again
      return { end, speed };
    }
    if (before.some(({ text }) => text !== speed.text)) return { end: { ...end, outcome: 'failed', message: 'the same settings gave another text than before' }, speed: undefined };
    before.push(speed);
    return { end, speed };
  }

  /** Why a point cannot be sampled: it does not fit, or the model or a device does not take it. */
  async #unfit(point: SpeedSettings): Promise<string | undefined> {
    try {
      const { fits, reasons } = await planned(this.path, this.with(point), this.context, this.options.signal);
      return fits ? undefined : (reasons.at(-1)?.message ?? 'it does not fit');
    } catch (failure) {
      const error = fromNative(failure);
      if (isTernionError(error, 'ERR_MODEL_UNSUPPORTED') || isTernionError(error, 'ERR_INVALID_ARG')) return error.message;
      throw error;
    }
  }

  #keyOf(point: SpeedSettings): object {
    const { devices = [], gpuLayers = 'all', experts = 'gpu', ubatch, flashAttention, kv = 'f16' } = this.with(point);
    const pair = typeof kv === 'string' ? { k: kv, v: kv } : kv;
    const gpus = devices.filter((id) => id !== 'cpu');
    return findingKey(this.identity, this.known, { gpus, gpuLayers, experts, kv: pair, ubatch, allowFallback: this.plan.allowFallback, flashAttention: typeof flashAttention === 'boolean' ? flashAttention : this.plan.flashAttention });
  }
}

const knownDevices = async (devices: readonly string[] | undefined) => (await addon().devices(needsGpu(devices, process.env['TERNION_DEVICES']))).devices;

async function planned(path: string, settings: SpeedSettings, context: number | undefined, signal: AbortSignal | undefined): Promise<Plan> {
  const request: PlanRequest = { ...settings, context, cache: { ramBytes: 0 }, signal };
  return planFor(path, request, await knownDevices(settings.devices));
}

function asEnd(value: unknown): ProbeEnd | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { outcome, message, ms } = value as Partial<ProbeEnd>;
  return outcomes.includes(outcome as ProbeOutcome) && outcome !== 'works' && typeof message === 'string' && typeof ms === 'number' ? (value as ProbeEnd) : undefined;
}
