/**
 * Where a model would go, before it is loaded.
 */
import { addon } from '../addon.js';
import { defaultDevices, needsGpu } from '../devices.js';
import { fromNative, isTernionError } from '../errors.js';
import type { KvType } from '../kv.js';
import { defaultContext, trainedContextIn } from '../native-options.js';
import type { NativeDevice, NativeDryRun } from '../native.js';
import { readPlanRequest } from './options.js';
import { bytesText } from './draw.js';
import type { PlannedMemory, Shortage } from './memory.js';
import type { PlanRequest, PlanSettings } from './request.js';
import { Search, contextStep } from './search.js';
import { NotMeasured, modelFacts, speedOf } from './speed.js';
import type { PlannedSpeed } from './speed.js';
import type { KvPair, Trial, Where } from './search.js';

/** Why a plan is as it is. */
export interface Reason {
  /** What was decided: `device`, `context`, `kv`, `experts`, `split`, `cache`, `speed`, or `fit` for what is missing and what would fit instead. */
  readonly code: 'device' | 'context' | 'kv' | 'experts' | 'split' | 'cache' | 'speed' | 'fit';
  /** The decision, its alternative, and what that costs. */
  readonly message: string;
}

/** Where a model would go. Plain data: `JSON.stringify` and `JSON.parse` give it back. */
export interface Plan extends PlanSettings {
  /** Of this shape. */
  readonly version: 1;
  readonly path: string;
  /** Name, architecture, layers …, as a loaded model tells them. */
  readonly model: NativeDryRun['info'];
  /** Whether all of it is there now, with the reserve left free. */
  readonly fits: boolean;
  readonly threads: number;
  readonly spareSequences: number;
  /** Budgets for conversations without cells, and for checkpoints. */
  readonly ramBytes: number;
  readonly checkpointBytes: number;
  /** By device, the CPU first. */
  readonly memory: readonly PlannedMemory[];
  /** What is missing; empty if the plan fits. */
  readonly shortages: readonly Shortage[];
  /** The weights by device, role and layer, as they would be held. */
  readonly weights: NativeDryRun['placement']['weights'];
  readonly reasons: readonly Reason[];
  /** Of the CPU, that the weights would be multiplied with there: `upstream`, or ours, with the ways in which types are held. */
  readonly kernels?: string | undefined;
  /** How fast it would be; undefined where that was not measured, see {@link PlanRequest.measure}, and for a plan that does not fit. */
  readonly speed?: PlannedSpeed | undefined;
}

const mebibyte = 2 ** 20;

/**
 * Plans a model's placement without loading it: llama.cpp itself lays it out, with a context, and takes nothing. Takes some 100 ms and
 * reads the file's header only, so a file whose weights are not here yet will do (`synthesize` with `headerOnly`).
 *
 * All of a model goes to a GPU, or else to the CPU; see {@link PlanRequest.allowSplit}.
 *
 * @throws ERR_INVALID_ARG at once; rejects with ERR_MODEL_NOT_FOUND, ERR_MODEL_INVALID, ERR_MODEL_UNSUPPORTED, ERR_DEVICE_NOT_FOUND or
 * ERR_ABORTED. A model that does not fit is a plan with `fits` false that says what would.
 * @example
 * ```ts
 * const { fits, context, memory } = await plan('model.gguf', { context: { min: 4096 } });
 * ```
 */
export function plan(path: string, request: PlanRequest = {}): Promise<Plan> {
  const checked = readPlanRequest(path, request);
  return planHere(path, checked).catch((failure: unknown) => Promise.reject(fromNative(failure, request.signal?.aborted ? { cause: request.signal.reason } : {})));
}

async function planHere(path: string, request: PlanRequest): Promise<Plan> {
  return planFor(path, request, (await addon().devices(needsGpu(request.devices, process.env['TERNION_DEVICES']))).devices);
}

/** @internal With the memory of `known`, which may be another machine's; its ids have to be devices of this one. */
export async function planFor(path: string, request: PlanRequest, known: readonly NativeDevice[]): Promise<Plan> {
  const header = await readHeader(path);
  const placed = await place(path, request, known, header?.trained);
  if (!placed.fits || header === undefined) return placed;
  try {
    const speed = await speedOf(placed, header.facts, request, known);
    return speed === undefined ? placed : { ...placed, speed };
  } catch (failure) {
    if (!(failure instanceof NotMeasured)) throw failure;
    return { ...placed, reasons: [...placed.reasons, { code: 'speed', message: `its speed was not measured: ${failure.message}` }] };
  }
}

/** What plans know of a header, read once: it may have a megabyte of words. Undefined where it cannot be read, which loading tells better. */
async function readHeader(path: string) {
  try {
    const header = await addon().inspect(path);
    return { trained: trainedContextIn(header), facts: modelFacts(header) };
  } catch (failure) {
    if (isTernionError(failure)) throw failure;
    return undefined;
  }
}

async function place(path: string, request: PlanRequest, known: readonly NativeDevice[], trained: number | undefined): Promise<Plan> {
  const reserve = { hostBytes: request.reserve?.hostBytes ?? 512 * mebibyte, deviceBytes: request.reserve?.deviceBytes ?? 256 * mebibyte };
  const search = new Search(path, request, known, reserve);
  const range = contexts(trained, request);
  const kinds = kvKinds(request.kv);
  const reasons: Reason[] = [];
  const found: Trial[] = [];
  let last: unknown;
  for (const where of candidates(request, known)) {
    try {
      const trial = await fittest(search, where, kinds, range);
      found.push(trial);
      if (trial.shortages.length === 0) return finish(path, request, trial, range, reasons);
      const apart = (request.experts ?? 'auto') === 'auto' ? await expertsApart(search, trial, kinds, range, known, reasons) : undefined;
      if (apart !== undefined) return finish(path, request, apart, range, reasons);
      reasons.push({ code: 'device', message: `not on ${whereText(where)}: ${trial.shortages.map(shortageText).join('; ')}` });
    } catch (failure) {
      if (request.devices !== undefined || !unsupported(failure)) throw failure;
      last = failure;
      reasons.push({ code: 'device', message: `not on ${whereText(where)}: ${fromNative(failure).message}` });
    }
  }
  const [nearest] = found;
  if (nearest === undefined) throw last;
  const split = request.allowSplit === true && request.gpuLayers === undefined ? await bestSplit(search, found, kinds, range) : undefined;
  if (split !== undefined) return finish(path, request, split, range, reasons);
  reasons.push(await whatWouldFit(search, nearest, kinds));
  return finish(path, request, nearest, range, reasons);
}

/** What `work` finds; `instead` where the model does not take what was tried, which nobody asked for. */
async function orUnsupported(work: Promise<Trial>, instead: Trial | undefined): Promise<Trial> {
  try {
    return await work;
  } catch (failure) {
    if (instead !== undefined && unsupported(failure)) return instead;
    throw failure;
  }
}

const unsupported = (failure: unknown) => isTernionError(fromNative(failure), 'ERR_MODEL_UNSUPPORTED');

interface Range {
  readonly min: number;
  readonly max: number;
  readonly open: boolean;
}

function contexts(trained: number | undefined, { context, kvTokens, sequences }: PlanRequest): Range {
  if (typeof context === 'object') {
    const pool = kvTokens ?? Math.floor((2 ** 31 - 1) / (sequences ?? 1));
    const max = Math.min(context.max ?? Math.max(trained ?? defaultContext, context.min), Math.max(pool, context.min));
    return { min: Math.min(context.min, max), max, open: true };
  }
  const one = context === 'trained' ? (trained ?? defaultContext) : (context ?? Math.min(trained ?? defaultContext, defaultContext));
  return { min: one, max: one, open: false };
}

function kvKinds(kv: PlanRequest['kv']): KvPair[] {
  const pair = (type: KvType) => ({ k: type, v: type });
  if (kv === 'auto') return [pair('f16'), pair('q8_0')];
  return [kv === undefined ? pair('f16') : typeof kv === 'string' ? pair(kv) : kv];
}

/** In the order in which they are preferred: everything on a GPU before everything on the CPU. */
function candidates(request: PlanRequest, known: readonly NativeDevice[]): Where[] {
  const gpuLayers = request.gpuLayers ?? 'all';
  const experts = request.experts === undefined || request.experts === 'auto' ? 'gpu' : request.experts;
  const named = request.devices ?? (process.env['TERNION_DEVICES'] ? defaultDevices(known, process.env['TERNION_DEVICES']) : undefined);
  if (named !== undefined) return [{ gpus: named.filter((id) => id !== 'cpu'), gpuLayers, experts }];
  const [best] = defaultDevices(known, undefined);
  const cpu = { gpus: [], gpuLayers: 'all', experts: 'gpu' } as const;
  return best === undefined || best === 'cpu' ? [cpu] : [{ gpus: [best], gpuLayers, experts }, cpu];
}

/** The first of the KV types with which the wanted context fits; else the one with which it becomes longest. */
async function fittest(search: Search, where: Where, kinds: readonly KvPair[], { min, max }: Range): Promise<Trial> {
  let best: Trial | undefined;
  for (const kv of kinds) {
    const trial = await orUnsupported(search.longest(where, kv, min, max), best);
    if (trial.shortages.length === 0 && trial.context >= max) return trial;
    if (best === undefined || (trial.shortages.length === 0 && (best.shortages.length > 0 || trial.context > best.context))) best = trial;
  }
  return best!;
}

/** A mixture's experts of as few layers as possible in the CPU's memory; nothing if that does not help. */
async function expertsApart(search: Search, whole: Trial, kinds: readonly KvPair[], range: Range, known: readonly NativeDevice[], reasons: Reason[]): Promise<Trial | undefined> {
  const { where, placement } = whole;
  const layers = placement.weights.filter(({ role, device }) => role === 'experts' && device !== 'cpu').map(({ layer }) => layer);
  if (where.gpus.length === 0 || layers.length === 0) return undefined;
  if (known.some(({ id, uma }) => where.gpus.includes(id) && uma)) {
    reasons.push({ code: 'experts', message: `experts in the CPU's memory gain nothing: ${where.gpus.join(' and ')} shares it` });
    return undefined;
  }
  const at = (cpuLayers: number): Where => ({ ...where, experts: { cpuLayers } });
  for (const kv of kinds) {
    let low = Math.min(...layers); // so few leave the GPU short
    let high = Math.max(...layers) + 1; // all
    const tooMuch = async (cpuLayers: number) => (await search.run(at(cpuLayers), range.min, kv)).shortages.some(({ device }) => device !== 'cpu');
    if (await tooMuch(high)) continue;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (await tooMuch(middle)) low = middle;
      else high = middle;
    }
    const trial = await search.longest(at(high), kv, range.min, range.max);
    if (trial.shortages.length === 0) return trial;
  }
  reasons.push({ code: 'experts', message: `nor with the experts in the CPU's memory` });
  return undefined;
}

/** As many layers on the GPU as it has room for, if the CPU has room for the rest. */
async function bestSplit(search: Search, found: readonly Trial[], kinds: readonly KvPair[], range: Range): Promise<Trial | undefined> {
  const gpu = found.find(({ where }) => where.gpus.length > 0);
  if (gpu === undefined) return undefined;
  const at = (gpuLayers: number): Where => ({ ...gpu.where, gpuLayers });
  for (const kv of kinds) {
    let low = 0; // none: the CPU alone was tried
    let high = gpu.info.layers + 1; // all: so was the GPU
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      const { shortages } = await search.run(at(middle), range.min, kv);
      if (shortages.some(({ device }) => device !== 'cpu')) high = middle;
      else low = middle;
    }
    if (low === 0) continue;
    const trial = await search.longest(at(low), kv, range.min, range.max);
    if (trial.shortages.length === 0) return trial;
  }
  return undefined;
}

async function whatWouldFit(search: Search, trial: Trial, kinds: readonly KvPair[]): Promise<Reason> {
  for (const kv of [...kinds, { k: 'q8_0', v: 'q8_0' } as const]) {
    const shorter = await orUnsupported(search.longest(trial.where, kv, Math.min(contextStep, trial.context), trial.context), trial);
    if (shorter.shortages.length > 0) continue;
    return { code: 'fit', message: `a context of ${shorter.context} tokens with a KV cache of ${kvText(kv)} would fit on ${whereText(trial.where)}` };
  }
  return { code: 'fit', message: `not even ${contextStep} tokens of context would fit on ${whereText(trial.where)}; take a file with fewer bits per weight, a smaller model, or a smaller reserve` };
}

function finish(path: string, request: PlanRequest, trial: Trial, range: Range, before: readonly Reason[]): Plan {
  const { placement, info, where, kv, ramBytes } = trial;
  const fits = trial.shortages.length === 0;
  const reasons: Reason[] = [...before];
  if (fits) reasons.push({ code: where.gpus.length > 0 && where.gpuLayers !== 'all' ? 'split' : 'device', message: `on ${whereText(where)}${request.devices === undefined ? '' : ', as was asked for'}` });
  if (fits && range.open) {
    const why = trial.context >= range.max ? 'all that was asked for' : `${range.max} would take more memory than there is`;
    reasons.push({ code: 'context', message: `a context of ${trial.context} tokens: ${why}` });
  }
  if (fits && request.kv === 'auto') reasons.push({ code: 'kv', message: kv.k === 'f16' ? 'a KV cache of f16: it fits' : `a KV cache of ${kvText(kv)}: of f16 the context would not fit` });
  if (fits && request.cache?.ramBytes === undefined && ramBytes === 0) reasons.push({ code: 'cache', message: 'no host memory for conversations without cells: none is left, or the GPU shares it' });
  return {
    version: 1, path, model: info, fits,
    devices: where.gpus.length > 0 ? where.gpus : ['cpu'],
    gpuLayers: where.gpuLayers,
    experts: where.experts,
    context: placement.context, sequences: placement.sequences, kvTokens: placement.kvTokens,
    spareSequences: placement.sequenceIds - placement.sequences,
    kv, threads: placement.threads, ramBytes, checkpointBytes: trial.checkpointBytes,
    memory: trial.memory, shortages: trial.shortages, weights: placement.weights, reasons,
    kernels: [placement.kernels, ...placement.packed.map(({ type, way }) => `${type} as ${way}`)].join(', '),
  };
}

const kvText = ({ k, v }: { k: string; v: string }) => (k === v ? k : `${k} keys and ${v} values`);

function whereText({ gpus, gpuLayers, experts }: Where): string {
  if (gpus.length === 0) return 'the CPU';
  const layers = gpuLayers === 'all' ? gpus.join(' and ') : `${gpus.join(' and ')} with ${gpuLayers} layers, the rest on the CPU`;
  if (experts === 'gpu') return layers;
  const apart = experts === 'cpu' ? 'all experts' : 'cpuLayers' in experts ? `the experts of the first ${experts.cpuLayers} layers` : 'some tensors';
  return `${layers}, ${apart} in the CPU's memory`;
}

/** "vulkan0 needs 5.0 GiB and has 4.2 GiB to give". */
export const shortageText = ({ device, neededBytes, availableBytes }: Shortage) => `${device} needs ${bytesText(neededBytes)} and has ${bytesText(availableBytes)} to give`;
