/**
 * Where the layers, the cells and the experts go: what is tried in which order, and why it is what it is.
 */
import { storedLimits } from '../ceiling/stored.js';
import { defaultDevices } from '../devices.js';
import { fromNative, isTernionError } from '../errors.js';
import type { KvType } from '../kv.js';
import { defaultContext } from '../native-options.js';
import type { NativeDevice } from '../native.js';
import { bytesText } from './draw.js';
import { expertsApart, fixedCacheBytes, withExpertCache } from './experts-apart.js';
import type { Reserve, Shortage } from './memory.js';
import type { Plan, Reason } from './plan.js';
import type { PlanRequest } from './request.js';
import { Search, contextStep, works } from './search.js';
import type { KvPair, Trial, Where } from './search.js';

const mebibyte = 2 ** 20;

/** By dry runs, with the memory of `known`; `useProbes`: keeps below contexts that were found not to work. */
export async function place(path: string, request: PlanRequest, known: readonly NativeDevice[], trained: number | undefined, useProbes: boolean): Promise<Plan> {
  const search = new Search(path, request, known, reserveOf(request), useProbes ? storedLimits(path, request, known) : undefined);
  const range = contexts(trained, request);
  const kinds = kvKinds(request.kv);
  const reasons: Reason[] = [];
  const found: Trial[] = [];
  let last: unknown;
  for (const where of candidates(request, known)) {
    try {
      const trial = await fittest(search, where, kinds, range);
      found.push(trial);
      if (works(trial)) return finish(path, request, search.allowFallback, await withExpertCache(search, trial, request, known, reasons), range, reasons);
      const apart = (request.experts ?? 'auto') === 'auto' ? await expertsApart(search, trial, kinds, range, request, known, reasons) : undefined;
      if (apart !== undefined) return finish(path, request, search.allowFallback, apart, range, reasons);
      reasons.push({ code: 'device', message: `not on ${whereText(where)}: ${trial.shortages.map(shortageText).join('; ') || limitText(trial)}` });
    } catch (failure) {
      if (request.devices !== undefined || !unsupported(failure)) throw failure;
      last = failure;
      reasons.push({ code: 'device', message: `not on ${whereText(where)}: ${fromNative(failure).message}` });
    }
  }
  const [nearest] = found;
  if (nearest === undefined) throw last;
  const split = request.allowSplit === true && request.gpuLayers === undefined ? await bestSplit(search, found, kinds, range) : undefined;
  if (split !== undefined) return finish(path, request, search.allowFallback, split, range, reasons);
  reasons.push(await whatWouldFit(search, nearest, kinds));
  return finish(path, request, search.allowFallback, nearest, range, reasons);
}

/** @internal */
export const reserveOf = ({ reserve }: PlanRequest): Reserve => ({ hostBytes: reserve?.hostBytes ?? 512 * mebibyte, deviceBytes: reserve?.deviceBytes ?? 256 * mebibyte });

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

/** Of contexts. */
export interface Range {
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
  // Where all experts may be on the GPU there is nothing to cache, until it is known that they cannot.
  const expertCacheBytes = experts === 'gpu' ? 0 : fixedCacheBytes(request);
  if (named !== undefined) return [{ gpus: named.filter((id) => id !== 'cpu'), gpuLayers, experts, expertCacheBytes }];
  const [best] = defaultDevices(known, undefined);
  const cpu = { gpus: [], gpuLayers: 'all', experts: 'gpu', expertCacheBytes: 0 } as const;
  return best === undefined || best === 'cpu' ? [cpu] : [{ gpus: [best], gpuLayers, experts, expertCacheBytes }, cpu];
}

/** The first of the KV types with which the wanted context fits; else the one with which it becomes longest. */
async function fittest(search: Search, where: Where, kinds: readonly KvPair[], { min, max }: Range): Promise<Trial> {
  let best: Trial | undefined;
  for (const kv of kinds) {
    const trial = await orUnsupported(search.longest(where, kv, min, max), best);
    if (works(trial) && trial.context >= max) return trial;
    if (best === undefined || (works(trial) && (!works(best) || trial.context > best.context))) best = trial;
  }
  return best!;
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
  if (trial.shortages.length === 0) return { code: 'fit', message: `memory has room, but ${limitText(trial)}; ask for a shorter one, or let findMaxContext look again ({ fresh: true })` };
  const weightsOf = (id: string) => trial.memory.find(({ device }) => device === id)?.weightBytes ?? 0;
  const hopeless = trial.shortages.some(({ device, availableBytes }) => weightsOf(device) > availableBytes); // no context is short enough then
  for (const kv of hopeless ? [] : [...kinds, { k: 'q8_0', v: 'q8_0' } as const]) {
    const shorter = await orUnsupported(search.longest(trial.where, kv, Math.min(contextStep, trial.context), trial.context), trial);
    if (shorter.shortages.length > 0) continue;
    return { code: 'fit', message: `a context of ${shorter.context} tokens with a KV cache of ${kvText(kv)} would fit on ${whereText(trial.where)}` };
  }
  return { code: 'fit', message: `not even ${contextStep} tokens of context would fit on ${whereText(trial.where)}; take a file with fewer bits per weight, a smaller model, or a smaller reserve` };
}

function finish(path: string, request: PlanRequest, allowFallback: Plan['allowFallback'], trial: Trial, range: Range, before: readonly Reason[]): Plan {
  const { placement, info, where, kv, ramBytes } = trial;
  const fits = works(trial);
  const reasons: Reason[] = [...before];
  if (fits) reasons.push({ code: where.gpus.length > 0 && where.gpuLayers !== 'all' ? 'split' : 'device', message: `on ${whereText(where)}${request.devices === undefined ? '' : ', as was asked for'}` });
  if (fits && range.open) {
    const why = trial.context >= range.max ? 'all that was asked for' : trial.limit !== undefined ? limitText(trial) : `${range.max} would take more memory than there is, or than a device can address`;
    reasons.push({ code: 'context', message: `a context of ${trial.context} tokens: ${why}` });
  }
  if (fits && request.kv === 'auto') reasons.push({ code: 'kv', message: kv.k === 'f16' ? 'a KV cache of f16: it fits' : `a KV cache of ${kvText(kv)}: of f16 the context would not fit` });
  if (fits && request.cache?.ramBytes === undefined && ramBytes === 0) reasons.push({ code: 'cache', message: 'no host memory for conversations without cells: none is left, or the GPU shares it' });
  for (const { operation, types, device, count } of placement.refused) {
    reasons.push({ code: 'fallback', message: `the CPU would compute ${operation} (${types}), ${count} of it in a graph: ${device} refuses it` });
  }
  return {
    version: 1, path, model: info, fits,
    devices: where.gpus.length > 0 ? where.gpus : ['cpu'],
    gpuLayers: where.gpuLayers,
    experts: where.experts, expertCacheBytes: where.expertCacheBytes,
    context: placement.context, sequences: placement.sequences, kvTokens: placement.kvTokens,
    spareSequences: placement.sequenceIds - placement.sequences,
    kv, allowFallback, ubatch: placement.ubatch, flashAttention: placement.flashAttention, flashAttentionAsked: request.flashAttention ?? 'auto', threads: placement.threads, ramBytes, checkpointBytes: trial.checkpointBytes,
    memory: trial.memory, shortages: trial.shortages, weights: placement.weights, refused: placement.refused, reasons,
    kernels: [placement.kernels, ...placement.packed.map(({ type, way }) => `${type} as ${way}`)].join(', '),
  };
}

const limitText = ({ limit }: Trial) => `one of ${limit?.context} was tried here and did not work (${limit?.outcome}: ${limit?.message})`;
const kvText = ({ k, v }: { k: string; v: string }) => (k === v ? k : `${k} keys and ${v} values`);

function whereText({ gpus, gpuLayers, experts, expertCacheBytes }: Where): string {
  if (gpus.length === 0) return 'the CPU';
  const layers = gpuLayers === 'all' ? gpus.join(' and ') : `${gpus.join(' and ')} with ${gpuLayers} layers, the rest on the CPU`;
  if (experts === 'gpu') return layers;
  const apart = experts === 'cpu' ? 'all experts' : 'cpuLayers' in experts ? `the experts of the first ${experts.cpuLayers} layers` : 'some tensors';
  const cache = expertCacheBytes > 0 ? `, those in recent use in ${bytesText(expertCacheBytes)} of the GPU's` : '';
  return `${layers}, ${apart} in the CPU's memory${cache}`;
}

/** "vulkan0 needs 5.0 GiB and has 4.2 GiB to give". */
export const shortageText = ({ device, neededBytes, availableBytes }: Shortage) => `${device} needs ${bytesText(neededBytes)} and has ${bytesText(availableBytes)} to give`;
