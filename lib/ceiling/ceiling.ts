/**
 * The longest context that works here, found by trying it.
 */
import { fileURLToPath } from 'node:url';
import { addon } from '../addon.js';
import { needsGpu } from '../devices.js';
import { TernionError, fromNative, isTernionError } from '../errors.js';
import type { ErrorCode } from '../errors.js';
import type { LoadOptions } from '../load.js';
import { trainedContext } from '../native-options.js';
import type { NativeDevice } from '../native.js';
import { reserveOf } from '../plan/placing.js';
import { planFor } from '../plan/plan.js';
import type { Plan } from '../plan/plan.js';
import type { PlanRequest } from '../plan/request.js';
import { Search, contextStep } from '../plan/search.js';
import type { KvPair, Where } from '../plan/search.js';
import { findingKey, modelIdentity, startAllowanceMs } from '../probe/identity.js';
import { maybeOthers, outOfPatience } from '../probe/passing.js';
import { limitsOf, runProbe } from '../probe/run.js';
import type { CeilingFigures, CeilingJob } from './child.js';
import { readCeilingRequest } from './options.js';
import { limitOf, storeProbes, storedProbes } from './stored.js';
import type { CeilingProbe } from './stored.js';

/** Bounds of a search. */
export interface CeilingBounds {
  /** Default 256. */
  readonly min?: number | undefined;
  /** Default: the trained context. */
  readonly max?: number | undefined;
}

/** Request of {@link findMaxContext}: the settings that the model is to be loaded with, and how to look. */
export interface CeilingRequest extends Pick<LoadOptions, 'devices' | 'gpuLayers' | 'sequences' | 'spareSequences' | 'threads' | 'ubatch' | 'flashAttention' | 'kv' | 'packCache' | 'signal'> {
  /** As a plan's: `'auto'`, the default, puts as few layers' experts as necessary into the CPU's memory. */
  readonly experts?: PlanRequest['experts'];
  /** Where to look. */
  readonly context?: CeilingBounds | undefined;
  /** Memory that no probe may take, as far as can be told before. GPUs with memory of their own are probed beyond it. */
  readonly reserve?: PlanRequest['reserve'];
  /** For each probe. Default: some minutes to load, depending on the file's size, then twenty times what the longest step took, at least half a minute, for each step. */
  readonly probeTimeoutMs?: number | undefined;
  /** Look again, whatever was found before. Default false. */
  readonly fresh?: boolean | undefined;
  /** Called after each probe; a context that was killed or had no memory is tried twice. */
  readonly onProbe?: ((probe: CeilingProbe) => void) | undefined;
  /** Called with the fraction of the probes that is done, 0 to 1, as far as it can be told. */
  readonly onProgress?: ((fraction: number) => void) | undefined;
}

/** What {@link findMaxContext} found. Plain data. */
export interface ContextCeiling {
  /** The longest context that works; 0 if none does. */
  readonly context: number;
  /**
   * Why it is no longer: all that was asked for works; the next step was tried and does not; or it was not tried, for it would need memory
   * that is reserved, or the device or the model refuses it (as ERR_MODEL_UNSUPPORTED, which `message` tells).
   */
  readonly end: 'max' | 'probe' | 'memory' | 'unsupported';
  /** In words. */
  readonly message: string;
  /** What a plan would have taken, without having tried; 0 if none fits. */
  readonly plannedContext: number;
  readonly trainedContext: number | undefined;
  /** What it holds for: options of `loadModel`, beside `context`. */
  readonly settings: Pick<LoadOptions, 'devices' | 'gpuLayers' | 'experts' | 'sequences' | 'spareSequences' | 'threads' | 'ubatch' | 'flashAttention' | 'kv' | 'allowFallback'>;
  /** What was tried, the shortest context first; of a context that was tried twice, the second time. */
  readonly probes: readonly CeilingProbe[];
}

const script = fileURLToPath(new URL('./child.js', import.meta.url));

/**
 * Finds the longest context that works on this machine: bisects between what a plan says and what the model was trained for, in steps of
 * 256 tokens. Each probe is a process of its own that loads the model, fills four fifths of the context and decodes; one that crashes,
 * hangs or is killed harms nobody else. What is found is kept in the user's cache folder, by model, settings, devices and drivers: later
 * calls and plans with a range of contexts use it.
 *
 * @throws ERR_INVALID_ARG at once; rejects with ERR_MODEL_NOT_FOUND, ERR_MODEL_INVALID, ERR_MODEL_UNSUPPORTED, ERR_DEVICE_NOT_FOUND or ERR_ABORTED.
 * @example
 * ```ts
 * const { context, settings } = await findMaxContext('model.gguf', { kv: 'q8_0' });
 * const model = await loadModel('model.gguf', { ...settings, context });
 * ```
 */
export function findMaxContext(path: string, request: CeilingRequest = {}): Promise<ContextCeiling> {
  return findCeiling(path, readCeilingRequest(path, request), script);
}

/** @internal With another program as the probe's child. */
export async function findCeiling(path: string, request: CeilingRequest, child: string): Promise<ContextCeiling> {
  try {
    return await new Finder(path, request, child).find();
  } catch (failure) {
    throw fromNative(failure, request.signal?.aborted ? { cause: request.signal.reason } : {});
  }
}

/** Errors that say nothing about the context: they are the call's. */
const notOfContext: readonly ErrorCode[] = ['ERR_INVALID_ARG', 'ERR_MODEL_NOT_FOUND', 'ERR_MODEL_INVALID', 'ERR_MODEL_UNSUPPORTED', 'ERR_DEVICE_NOT_FOUND', 'ERR_BINARY_NOT_FOUND', 'ERR_BINARY_INCOMPATIBLE'];

class Finder {
  readonly #request: PlanRequest;
  #probes: CeilingProbe[] = [];
  /** Of these what says nothing to later calls. */
  readonly #passing = new Set<CeilingProbe>();

  constructor(private readonly path: string, private readonly options: CeilingRequest, private readonly child: string) {
    const { devices, gpuLayers, sequences, spareSequences, threads, ubatch, flashAttention, kv, packCache, signal, experts, reserve } = options;
    this.#request = { devices, gpuLayers, sequences, spareSequences, threads, ubatch, flashAttention, kv, packCache, signal, experts, reserve, cache: { ramBytes: 0 } };
  }

  async find(): Promise<ContextCeiling> {
    const { options, path } = this;
    const trained = await trainedContext(path);
    const { max = Math.max(trained ?? 0, options.context?.min ?? contextStep), min = Math.min(contextStep, max) } = options.context ?? {};
    const plan = await planFor(path, { ...this.#request, context: { min, max } }, await this.#known(), false);
    const where: Where = { gpus: plan.devices.filter((id) => id !== 'cpu'), gpuLayers: plan.gpuLayers, experts: plan.experts, expertCacheBytes: 0 };
    const kv = plan.kv as KvPair;
    const identity = await modelIdentity(path);
    const key = identity === undefined ? undefined : findingKey(identity, await this.#known(), { ...this.#request, ...where, kv, flashAttention: plan.flashAttention, allowFallback: plan.allowFallback });
    if (key !== undefined && options.fresh !== true) this.#probes = await storedProbes(key);

    // Contexts are multiples of a step between `low`, which works, and `high`, which does not, or is beyond all that is wanted.
    const at = (step: number) => Math.min(Math.max(step * contextStep, min), max);
    const lowest = Math.floor(min / contextStep) - 1;
    const above = Math.ceil(max / contextStep) + 1;
    const stepUp = (context: number) => (context >= max ? above - 1 : Math.floor(context / contextStep));
    const known = limitOf(this.#probes);
    const working = known?.works ?? Math.max(0, ...this.#probes.map(({ context }) => context));
    let low = working >= min ? stepUp(working) : lowest;
    let high = known !== undefined && known.fails.context <= max ? Math.max(low + 1, Math.ceil(known.fails.context / contextStep)) : above;
    let end: ContextCeiling['end'] = high === above ? 'max' : 'probe';
    let refusal = '';
    let guess = plan.fits ? stepUp(plan.context) : lowest + 1;
    let suspected = -1; // was tried once
    for (let made = 0; high - low > 1; ) {
      const step = guess > low && guess < high ? guess : (low + high) >> 1;
      guess = -1; // once
      const context = at(step);
      const untried = await this.#refused(where, kv, context, min);
      if (untried !== undefined) {
        high = step;
        ({ end, message: refusal } = untried);
        continue;
      }
      const left = Math.ceil(Math.log2(high - low));
      const probe = await this.#probe(plan, context, (fraction) => options.onProgress?.((made + fraction) / (made + left)));
      made++;
      this.#probes = [...this.#probes.filter((each) => each.context !== context), probe].sort((a, b) => a.context - b.context);
      const again = maybeOthers(probe) && step !== suspected;
      if (again || outOfPatience(probe, options.probeTimeoutMs)) this.#passing.add(probe);
      else if (key !== undefined) await storeProbes(key, this.#probes.filter((each) => !this.#passing.has(each)));
      options.onProbe?.(probe);
      if (again) suspected = guess = step;
      else if (probe.outcome === 'works') low = step;
      else {
        high = step;
        end = 'probe';
      }
    }
    const context = low === lowest ? 0 : at(low);
    const { devices, gpuLayers, sequences, threads, flashAttention, allowFallback } = plan;
    return {
      context, end,
      message: this.#words(context, end, high === above ? max : at(high), refusal),
      plannedContext: plan.fits ? plan.context : 0,
      trainedContext: trained,
      settings: { devices, ...(where.gpus.length > 0 && { gpuLayers, experts: plan.experts, allowFallback }), sequences, ...(options.spareSequences !== undefined && { spareSequences: options.spareSequences }), threads, ubatch: options.ubatch ?? 512, flashAttention, kv },
      probes: this.#probes,
    };
  }

  async #known(): Promise<readonly NativeDevice[]> {
    return (await addon().devices(needsGpu(this.options.devices, process.env['TERNION_DEVICES']))).devices;
  }

  /**
   * Why a context need not be tried. Memory: what the CPU's has room for now, and GPUs that share it, and what a limit leaves; that of a
   * GPU's own is what a probe finds out about. Beyond the shortest context, which the plan was made with, a device may refuse what it took before.
   */
  async #refused(where: Where, kv: KvPair, context: number, min: number): Promise<{ end: 'memory' | 'unsupported'; message: string } | undefined> {
    const known = (await this.#known()).map((device) => (device.id === 'cpu' || device.uma || device.limited !== undefined ? device : { ...device, freeBytes: Number.MAX_SAFE_INTEGER }));
    try {
      const { shortages } = await new Search(this.path, this.#request, known, reserveOf(this.#request)).run(where, context, kv);
      return shortages.length === 0 ? undefined : { end: 'memory', message: 'it would take memory that is reserved, or not there' };
    } catch (failure) {
      const error = fromNative(failure);
      if (context <= min || !isTernionError(error, 'ERR_MODEL_UNSUPPORTED')) throw failure;
      return { end: 'unsupported', message: error.message };
    }
  }

  async #probe(plan: Plan, context: number, onProgress: (fraction: number) => void): Promise<CeilingProbe> {
    const { path, options } = this;
    const { devices, gpuLayers, experts, sequences, threads, flashAttention, allowFallback, kv, model } = plan;
    const startMs = startAllowanceMs(model.fileBytes);
    const job: CeilingJob = {
      path, context, startMs,
      load: {
        devices, gpuLayers, experts, sequences, threads, flashAttention, allowFallback, kv: kv as KvPair, ubatch: options.ubatch,
        spareSequences: options.spareSequences, packCache: options.packCache, cache: { ramBytes: 0 },
      },
    };
    const { end, result } = await runProbe({ script: this.child, job, limits: limitsOf(await this.#known(), devices), startMs, timeoutMs: options.probeTimeoutMs, signal: options.signal, onProgress });
    if (end.code !== undefined && notOfContext.includes(end.code as ErrorCode)) throw new TernionError(end.code as ErrorCode, end.message);
    return { context, ...end, ...(result as CeilingFigures | undefined), stored: false };
  }

  #words(context: number, end: ContextCeiling['end'], next: number, refusal: string): string {
    const works = context === 0 ? 'no context works' : `a context of ${context} tokens works`;
    if (end === 'max') return `${works}: all that was asked for`;
    if (end !== 'probe') return `${works}; ${next} was not tried: ${refusal}`;
    const { fails } = limitOf(this.#probes)!;
    return `${works}; ${fails.context} ${fails.outcome}: ${fails.message}`;
  }
}
