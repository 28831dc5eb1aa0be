/**
 * Looks for the settings with which a model fits: every step is a dry run of the real library, formulas only say where to look next.
 */
import { addon } from '../addon.js';
import { fromNative, isTernionError } from '../errors.js';
import type { Experts } from '../experts.js';
import type { KvType } from '../kv.js';
import { defaultFallback } from '../devices.js';
import { nativeLoadOptions } from '../native-options.js';
import type { NativeDevice, NativeDryRun } from '../native.js';
import { abortable } from '../task.js';
import type { CeilingProbe } from '../ceiling/stored.js';
import { plannedMemory, roomForCache, shortages, takenOf } from './memory.js';
import type { PlannedMemory, Reserve, Shortage } from './memory.js';
import type { PlanRequest } from './request.js';

/** Where the layers go. */
export interface Where {
  readonly gpus: readonly string[];
  readonly gpuLayers: number | 'all';
  readonly experts: Experts;
  /** Of device memory, for experts in recent use that lie in the CPU's. */
  readonly expertCacheBytes: number;
}

export interface KvPair {
  readonly k: KvType;
  readonly v: KvType;
}

/** One dry run and what it would take. */
export interface Trial extends NativeDryRun {
  readonly where: Where;
  readonly context: number;
  readonly kv: KvPair;
  readonly memory: readonly PlannedMemory[];
  readonly shortages: readonly Shortage[];
  /** Budget for conversations without cells. */
  readonly ramBytes: number;
  /** Of that, what nobody asked for: it gives way. */
  readonly elasticBytes: number;
  readonly checkpointBytes: number;
  /** The context was to become longer, but this probe of one did not work. */
  readonly limit?: CeilingProbe | undefined;
}

/** A context that is too long: a trial that lacks memory, or one that was refused. */
type Limit = Pick<Trial, 'context' | 'shortages'>;
/** The shortest context that was tried with these settings and did not work. */
export type LimitOf = (where: Where, kv: KvPair, flashAttention: boolean) => Promise<CeilingProbe | undefined>;

/** Memory has room for it, and nobody found that it does not work. */
export const works = ({ shortages, limit, context }: Trial) => shortages.length === 0 && (limit === undefined || context < limit.context);

/** llama.cpp rounds a context up to this many cells. */
export const contextStep = 256;

export class Search {
  readonly #trials = new Map<string, Promise<Trial>>();
  readonly #path: string;
  readonly #request: PlanRequest;
  readonly #known: readonly NativeDevice[];
  readonly #reserve: Reserve;
  readonly allowFallback: boolean | 'operations';
  readonly #limitOf: LimitOf | undefined;

  constructor(path: string, request: PlanRequest, known: readonly NativeDevice[], reserve: Reserve, limitOf?: LimitOf) {
    this.#path = path;
    this.#request = request;
    this.#known = known;
    this.#reserve = reserve;
    this.allowFallback = request.allowFallback ?? defaultFallback(request.devices, process.env['TERNION_DEVICES']);
    this.#limitOf = limitOf;
  }

  /** Rejects as loading would, with ERR_MODEL_UNSUPPORTED where the device does not compute with the weights. */
  async run(where: Where, context: number, kv: KvPair): Promise<Trial> {
    const key = JSON.stringify([where, context, kv]);
    const trial = this.#trials.get(key) ?? this.#run(where, context, kv);
    this.#trials.set(key, trial);
    return trial;
  }

  async #run(where: Where, context: number, kv: KvPair): Promise<Trial> {
    const { signal } = this.#request;
    const options = nativeLoadOptions(this.#path, { ...this.#request, allowFallback: this.allowFallback, gpuLayers: where.gpuLayers, experts: where.experts, expertCache: { deviceBytes: where.expertCacheBytes }, kv }, where.gpus, this.#known, context);
    const { info, placement } = await abortable(signal, () => addon().dryRun(options, null));
    const checkpointBytes = placement.checkpoints ? options.checkpointBytes : 0;
    const wanted = this.#request.cache?.ramBytes;
    const memoryWith = (ramBytes: number) => plannedMemory(placement.devices, this.#known, this.#reserve, checkpointBytes + ramBytes);
    const ramBytes = wanted ?? roomForCache(memoryWith(0), options.ramBytes);
    const memory = memoryWith(ramBytes);
    return { info, placement, where, context: placement.context, kv, memory, shortages: shortages(memory), ramBytes, elasticBytes: wanted === undefined ? ramBytes : 0, checkpointBytes: options.checkpointBytes };
  }

  /** Beyond the shortest context a device may refuse what it took before: what becomes too long for it. */
  async #attempt(where: Where, context: number, kv: KvPair): Promise<Trial | Limit> {
    try {
      return await this.run(where, context, kv);
    } catch (failure) {
      if (!isTernionError(fromNative(failure), 'ERR_MODEL_UNSUPPORTED')) throw failure;
      return { context, shortages: [] };
    }
  }

  /** The longest context from `min` to `max` that fits there, and that was not found to fail; the one of `min`, which does not, if none does. */
  async longest(where: Where, kv: KvPair, min: number, max: number): Promise<Trial> {
    const least = await this.run(where, min, kv);
    if (least.shortages.length > 0 || max === min) return least;
    const limit = await this.#limitOf?.(where, kv, least.placement.flashAttention);
    if (limit === undefined || limit.context > max) return this.#longestThatFits(least, max);
    const below = Math.floor((limit.context - 1) / contextStep) * contextStep;
    if (below <= min) return { ...least, limit };
    const found = await this.#longestThatFits(least, below);
    return found.context < below ? found : { ...found, limit };
  }

  async #longestThatFits(least: Trial, max: number): Promise<Trial> {
    const { where, kv } = least;
    let fitting = least;
    let failing: Limit | undefined;
    while (failing === undefined) {
      const trial = await this.#attempt(where, Math.min(max, beyondMemory(fitting)), kv); // not `max` at once: a dry run keeps a list of the cells
      if (!('where' in trial) || trial.shortages.length > 0) failing = trial;
      else if (trial.context >= max) return trial;
      else fitting = trial;
    }
    // Bytes grow with the context in almost a straight line, so two or three runs find the last step that fits.
    for (let tries = 0; failing.context - fitting.context > contextStep && tries < 12; tries++) {
      const next = between(fitting, failing);
      const trial = await this.#attempt(where, next, kv);
      if ('where' in trial && trial.shortages.length === 0) fitting = trial;
      else failing = trial;
      const beside = fitting.context + contextStep;
      if (trial === fitting && beside < failing.context) {
        const above = await this.#attempt(where, beside, kv);
        if ('where' in above && above.shortages.length === 0) fitting = above;
        else failing = above;
      }
    }
    return fitting;
  }
}

/** A context whose keys and values alone take more than there is, or all that can be asked for. */
function beyondMemory({ memory, placement, context }: Trial): number {
  const limits = memory.flatMap(({ freeBytes, kvBytes }) => (kvBytes > 0 ? [(freeBytes / kvBytes) * Math.ceil(placement.kvTokens / contextStep) * contextStep] : []));
  const longest = (Math.min(...limits) * 1.01 * context) / placement.kvTokens; // of several sequences
  return Number.isFinite(longest) ? Math.max(context + contextStep, Math.ceil(longest / contextStep) * contextStep) : Number.MAX_SAFE_INTEGER;
}

/** The context between one that fits and one that does not where a straight line through both meets what is there. */
function between(fitting: Trial, failing: Limit): number {
  const share = failing.shortages.length === 0 ? 0.5 : Math.min(
    ...failing.shortages.map(({ device, neededBytes, availableBytes }) => {
      const used = taken(fitting, device);
      return (availableBytes - used) / (neededBytes - used);
    }),
  );
  const at = fitting.context + share * (failing.context - fitting.context);
  const step = Math.floor(at / contextStep) * contextStep;
  return Math.min(Math.max(step, fitting.context + contextStep - (fitting.context % contextStep)), failing.context - 1);
}

/** As {@link shortages} counts; budgets that give way are not of it. */
function taken({ memory, elasticBytes }: Trial, device: string): number {
  const own = memory.find((part) => part.device === device);
  return (own === undefined ? 0 : takenOf(memory, own)) - (device === 'cpu' ? elasticBytes : 0);
}
