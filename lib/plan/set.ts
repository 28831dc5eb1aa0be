/**
 * Several models that are to be in memory together.
 */
import { addon } from '../addon.js';
import { needsGpu } from '../devices.js';
import { fromNative } from '../errors.js';
import type { NativeDevice } from '../native.js';
import { readPlanRequests } from './options.js';
import { planFor, withLoadTime } from './plan.js';
import type { Plan } from './plan.js';
import type { PlannedMemory } from './memory.js';
import type { PlanRequest } from './request.js';

/** One model of a set. */
export interface PlanSetEntry extends Omit<PlanRequest, 'signal'> {
  readonly path: string;
}

/** Plans that can be loaded together, in any order. */
export interface PlanSet {
  /** Whether all of them fit together. */
  readonly fits: boolean;
  /** One for each entry, in the same order. */
  readonly plans: readonly Plan[];
}

/**
 * Plans models that are to be loaded together: each takes what those before it left, at their largest. Host memory for conversations
 * without cells is none here, unless `cache.ramBytes` says how much.
 *
 * @throws as {@link plan}.
 * @example
 * ```ts
 * const { fits, plans: [chat, draft] } = await plan.set([{ path: 'chat.gguf', context: 8192 }, { path: 'draft.gguf' }]);
 * ```
 */
export function planSet(entries: readonly PlanSetEntry[], options: Pick<PlanRequest, 'signal'> = {}): Promise<PlanSet> {
  const checked = readPlanRequests(entries, options);
  return make(checked).catch((failure: unknown) => Promise.reject(fromNative(failure, options.signal?.aborted ? { cause: options.signal.reason } : {})));
}

async function make(entries: readonly { readonly path: string; readonly request: PlanRequest }[]): Promise<PlanSet> {
  const gpu = entries.some(({ request }) => needsGpu(request.devices, process.env['TERNION_DEVICES']));
  let { devices: known } = await addon().devices(gpu);
  const plans: Plan[] = [];
  for (const { path, request } of entries) {
    const next = await withLoadTime(await planFor(path, { ...request, cache: { ramBytes: 0, ...request.cache } }, known));
    plans.push(next);
    known = without(known, next.memory);
  }
  return { fits: plans.every(({ fits }) => fits), plans };
}

/** The devices with what a plan takes gone; a pool that several share is smaller for all of them. */
function without(known: readonly NativeDevice[], memory: readonly PlannedMemory[]): NativeDevice[] {
  return known.map((device) => {
    const own = memory.find((part) => part.device === device.id)?.bytes ?? 0;
    const pool = memory.filter((part) => part.pool === 'cpu').reduce((sum, { poolBytes }) => sum + poolBytes, 0);
    const taken = device.id === 'cpu' ? pool : device.uma ? Math.max(own, pool) : own;
    return { ...device, freeBytes: Math.max(0, device.freeBytes - taken), ownFreeBytes: Math.max(0, device.ownFreeBytes - own) };
  });
}
