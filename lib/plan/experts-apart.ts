/**
 * A mixture whose experts a GPU has no room for: they lie in the CPU's memory, and those in recent use on the GPU too if that is asked for.
 */
import { fromNative, isTernionError } from '../errors.js';
import type { NativeDevice } from '../native.js';
import { takenOf } from './memory.js';
import type { Range } from './placing.js';
import type { Reason } from './plan.js';
import type { PlanRequest } from './request.js';
import type { KvPair, Search, Trial, Where } from './search.js';

/** What was asked for in bytes; 0 where that is left open. */
export const fixedCacheBytes = ({ expertCache }: PlanRequest) => (typeof expertCache === 'object' ? expertCache.deviceBytes : 0);

/**
 * The experts of as few layers as possible in the CPU's memory, or all of them where the rest of the GPU's is for a cache; nothing if
 * that does not help.
 */
export async function expertsApart(search: Search, whole: Trial, kinds: readonly KvPair[], range: Range, request: PlanRequest, known: readonly NativeDevice[], reasons: Reason[]): Promise<Trial | undefined> {
  const { where, placement } = whole;
  const layers = placement.weights.filter(({ role, device }) => role === 'experts' && device !== 'cpu').map(({ layer }) => layer);
  if (where.gpus.length === 0 || layers.length === 0) return undefined;
  if (shared(where, known)) {
    reasons.push({ code: 'experts', message: `experts in the CPU's memory gain nothing: ${where.gpus.join(' and ')} shares it` });
    return undefined;
  }
  const at = (cpuLayers: number): Where => ({ ...where, experts: { cpuLayers }, expertCacheBytes: fixedCacheBytes(request) });
  const all = Math.max(...layers) + 1;
  for (const kv of kinds) {
    let low = request.expertCache === 'auto' ? all - 1 : Math.min(...layers); // so few leave the GPU short, or the cache little
    let high = all;
    const tooMuch = async (cpuLayers: number) => (await search.run(at(cpuLayers), range.min, kv)).shortages.some(({ device }) => device !== 'cpu');
    if (await tooMuch(high)) continue;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (await tooMuch(middle)) low = middle;
      else high = middle;
    }
    const trial = await search.longest(at(high), kv, range.min, range.max);
    if (trial.shortages.length === 0) return withExpertCache(search, trial, request, known, reasons);
  }
  reasons.push({ code: 'experts', message: `nor with the experts in the CPU's memory` });
  return undefined;
}

/** `trial`, which fits, with what its GPU has left as an expert cache if the request leaves that to the plan. */
export async function withExpertCache(search: Search, trial: Trial, request: PlanRequest, known: readonly NativeDevice[], reasons: Reason[]): Promise<Trial> {
  const { where, memory, placement } = trial;
  const onCpu = where.gpus.length > 0 && placement.weights.some(({ role, device }) => role === 'experts' && device === 'cpu');
  if (request.expertCache === undefined || where.expertCacheBytes > 0) return trial;
  if (!onCpu || request.expertCache !== 'auto') {
    if (where.gpus.length > 0) reasons.push({ code: 'experts', message: 'no expert cache: no experts lie in the CPU\'s memory beside a GPU' });
    return trial;
  }
  if (shared(where, known)) {
    reasons.push({ code: 'experts', message: `no expert cache: ${where.gpus.join(' and ')} shares the CPU's memory` });
    return trial;
  }
  const left = memory.filter(({ device }) => device !== 'cpu').map((part) => part.freeBytes - part.reserveBytes - takenOf(memory, part));
  const expertCacheBytes = Math.max(0, ...left);
  try {
    const cached = await search.run({ ...where, expertCacheBytes }, trial.context, trial.kv);
    if (cached.shortages.length === 0) return cached;
  } catch (failure) {
    if (!isTernionError(fromNative(failure), 'ERR_INVALID_ARG')) throw failure; // no room for one expert of each layer
  }
  reasons.push({ code: 'experts', message: 'no expert cache: the GPU has no room left for one expert of each layer' });
  return trial;
}

const shared = (where: Where, known: readonly NativeDevice[]) => known.some(({ id, uma }) => where.gpus.includes(id) && uma);
