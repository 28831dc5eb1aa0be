/**
 * The fastest settings of a model on this machine, found by measuring.
 */
import { availableParallelism } from 'node:os';
import { addon } from '../addon.js';
import type { Ratio } from '../bench/measure.js';
import { fromNative } from '../errors.js';
import type { KvType } from '../kv.js';
import type { LoadOptions } from '../load.js';
import { recall, remember } from '../measured.js';
import { Measuring, speedScript } from './measuring.js';
import type { MeasuringOptions, Series, SpeedFigure } from './measuring.js';
import type { SpeedSettings } from './child.js';
import { readTuneRequest } from './options.js';

/** Request of {@link tune}: what is fixed, and the values to choose between beside the default ones; an empty list leaves a setting alone. */
export interface TuneRequest extends MeasuringOptions, Pick<LoadOptions, 'devices' | 'gpuLayers' | 'packCache'> {
  /** As a load's. Default: as a plan finds. */
  readonly experts?: LoadOptions['experts'];
  /** Default 128, 256, 1024 and 2048, as far as `prompt` is as long. */
  readonly ubatch?: readonly number[] | undefined;
  /** Default: the other one of what `'auto'` is here. */
  readonly flashAttention?: readonly boolean[] | undefined;
  /** Types of KV cache. They change what a model says a little, see {@link LoadOptions.kv}. Default q8_0. */
  readonly kv?: readonly KvType[] | undefined;
  /** Default: half of the physical cores and all logical ones, where the CPU computes. */
  readonly threads?: readonly number[] | undefined;
}

/** Settings and how much faster they are. */
export interface Tuned {
  /** Beside the default ones. */
  readonly settings: SpeedSettings;
  /** To the default ones in the same rounds; undefined where these are the fastest. */
  readonly ratio: Ratio | undefined;
}

/** What {@link tune} found. Plain data. */
export interface TuneResult extends Series {
  /** For `loadModel` and `plan`: what is faster in decoding, and in prefill where decoding does not suffer. */
  readonly settings: SpeedSettings;
  /** The fastest for each alone. */
  readonly decode: Tuned;
  readonly prefill: Tuned;
  /** What was measured: tokens prefilled and decoded, rounds, context. */
  readonly prompt: number;
  readonly tokens: number;
  readonly rounds: number;
  readonly context: number;
  /** It is an earlier call's. */
  readonly stored: boolean;
}

/**
 * Measures settings that change a model's speed: ubatch, flash attention, KV types and threads (the logical batch is the ubatch here).
 * Each sample is a process of its own; the default settings, the same again and the others take turns, and what is no farther from the
 * default than the default from itself is a tie, and left as it is. Settings that crash or hang (not: that outlast `probeTimeoutMs`) are remembered and never repeated. What was
 * found is kept in the user's cache folder, by model, devices and drivers. Close other work while it runs.
 *
 * @throws ERR_INVALID_ARG at once; rejects with ERR_MODEL_NOT_FOUND, ERR_MODEL_INVALID, ERR_MODEL_UNSUPPORTED, ERR_DEVICE_NOT_FOUND,
 * ERR_PLAN_DOES_NOT_FIT, ERR_ABORTED, and ERR_INTERNAL if the default settings themselves crash or hang.
 * @example
 * ```ts
 * const { settings } = await tune('model.gguf');
 * const model = await loadModel('model.gguf', settings);
 * ```
 */
export function tune(path: string, request: TuneRequest = {}): Promise<TuneResult> {
  return tuneWith(path, readTuneRequest(path, request), speedScript);
}

const kind = 'tune';

/** @internal With another program as the samples' child. */
export async function tuneWith(path: string, request: TuneRequest, child: string): Promise<TuneResult> {
  try {
    return await measure(path, request, child);
  } catch (failure) {
    throw fromNative(failure, request.signal?.aborted ? { cause: request.signal.reason } : {});
  }
}

async function measure(path: string, request: TuneRequest, child: string): Promise<TuneResult> {
  const { devices, gpuLayers, experts, packCache } = request;
  const fixed: SpeedSettings = Object.fromEntries(Object.entries({ devices, gpuLayers, experts, packCache }).filter(([, value]) => value !== undefined));
  const measuring = await Measuring.open(path, fixed, request, child);
  const points = candidates(measuring, request);
  const key = { ...measuring.key, points };
  const old = request.fresh ? undefined : await recall(kind, key);
  if (isResult(old)) return { ...old, settings: { ...fixed, ...old.settings }, stored: true };

  const alone = await measuring.series(points, 'settings alone');
  const choices = { decode: bestTogether(alone.figures, 'decode'), prefill: bestTogether(alone.figures, 'prefill'), both: compromise(alone.figures) };
  // Settings that are fast alone need not be fast together.
  const together = distinct(Object.values(choices).filter((settings) => Object.keys(settings).length > 1));
  const combined = together.length > 0 ? await measuring.series(together, 'settings together') : undefined;
  const figures = [...alone.figures, ...(combined?.figures ?? [])];
  const decode = fastest(figures, 'decode');
  const prefill = fastest(figures, 'prefill');
  const both = figures.find(({ settings }) => same(settings, choices.both));
  const worthwhile = both !== undefined && !slower(both.decodeRatio) && (faster(both.decodeRatio) || faster(both.prefillRatio)) && both.decodeRatio.median >= (decode.ratio?.q1 ?? 0);
  const kept = worthwhile ? both.settings : decode.settings;
  const { prompt, tokens, rounds, context } = measuring;
  const result = {
    settings: kept, decode, prefill, figures, missing: [...alone.missing, ...(combined?.missing ?? [])],
    base: alone.base, control: alone.control, prompt, tokens, rounds, context, stored: false,
  };
  if (measuring.lasting) await remember(kind, key, result);
  return { ...result, settings: { ...fixed, ...kept } };
}

/** One setting each that is not the default one. */
function candidates({ plan, prompt, context }: Measuring, request: TuneRequest): SpeedSettings[] {
  const cores = addon().kernels().threads;
  const onCpu = plan.weights.some(({ device, role, layer }) => device === 'cpu' && (layer >= 0 || role === 'output'));
  const values = {
    ubatch: request.ubatch ?? [128, 256, 1024, 2048].filter((ubatch) => ubatch <= prompt),
    flashAttention: request.flashAttention ?? [!plan.flashAttention],
    kv: request.kv ?? ['q8_0'],
    threads: request.threads ?? (onCpu ? [Math.ceil(cores / 2), availableParallelism()] : []),
  };
  const usual: Readonly<Record<string, unknown>> = { ubatch: Math.min(512, context), flashAttention: plan.flashAttention, kv: 'f16', threads: plan.threads };
  return Object.entries(values).flatMap(([name, list]) => [...new Set<unknown>(list)].filter((value) => value !== usual[name]).map((value): SpeedSettings => ({ [name]: value })));
}

type Test = 'prefill' | 'decode';
const ratioOf = (figure: SpeedFigure, test: Test) => (test === 'prefill' ? figure.prefillRatio : figure.decodeRatio);
const faster = ({ tie, median }: Ratio) => !tie && median > 1;
const slower = ({ tie, median }: Ratio) => !tie && median < 1;
const same = (a: SpeedSettings, b: SpeedSettings) => JSON.stringify(Object.entries(a).sort()) === JSON.stringify(Object.entries(b).sort());
const distinct = (list: readonly SpeedSettings[]) => list.filter((each, i) => list.findIndex((other) => same(other, each)) === i);
const nameOf = ({ settings }: SpeedFigure) => Object.keys(settings)[0]!;

/** Of each setting the value that is fastest alone, if it is faster than the default one. */
function bestTogether(alone: readonly SpeedFigure[], test: Test, allowed: (figure: SpeedFigure) => boolean = () => true): SpeedSettings {
  const best = new Map<string, SpeedFigure>();
  for (const figure of alone) {
    const ratio = ratioOf(figure, test);
    const before = best.get(nameOf(figure));
    if (faster(ratio) && allowed(figure) && (before === undefined || ratio.median > ratioOf(before, test).median)) best.set(nameOf(figure), figure);
  }
  return Object.assign({}, ...[...best.values()].map(({ settings }) => settings)) as SpeedSettings;
}

/** What is faster in decoding; of the other settings what is faster in prefill and not slower in decoding. */
function compromise(alone: readonly SpeedFigure[]): SpeedSettings {
  return { ...bestTogether(alone, 'prefill', ({ decodeRatio }) => !slower(decodeRatio)), ...bestTogether(alone, 'decode') };
}

function fastest(figures: readonly SpeedFigure[], test: Test): Tuned {
  const [best] = figures.filter((figure) => faster(ratioOf(figure, test))).sort((a, b) => ratioOf(b, test).median - ratioOf(a, test).median);
  return best === undefined ? { settings: {}, ratio: undefined } : { settings: best.settings, ratio: ratioOf(best, test) };
}

function isResult(value: unknown): value is TuneResult {
  if (typeof value !== 'object' || value === null) return false;
  const { settings, decode, prefill, figures, missing, base, control } = value as Partial<Record<keyof TuneResult, unknown>>;
  return [settings, decode, prefill, base, control].every((part) => typeof part === 'object' && part !== null) && Array.isArray(figures) && Array.isArray(missing);
}
