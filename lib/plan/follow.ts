/**
 * Loading as a plan says.
 */
import { addon } from '../addon.js';
import { TernionError } from '../errors.js';
import type { KvType } from '../kv.js';
import type { LoadOptions } from '../load.js';
import { nativeLoadOptions } from '../native-options.js';
import type { NativeDevice, NativeLoadOptions } from '../native.js';
import { abortable } from '../task.js';
import { describe, plannedMemory, shortages } from './memory.js';
import type { Plan } from './plan.js';
import { shortageText } from './placing.js';

/**
 * The addon's options for `plan`, once it was laid out again: file, machine and free memory may be others by now.
 *
 * @throws ERR_PLAN_DOES_NOT_FIT.
 */
export async function followPlan(path: string, plan: Plan, options: Pick<LoadOptions, 'mmap' | 'packCache' | 'cache' | 'countExperts' | 'signal'>, known: readonly NativeDevice[]): Promise<NativeLoadOptions> {
  const refuse = (message: string, details: Record<string, unknown>) => new TernionError('ERR_PLAN_DOES_NOT_FIT', `loadModel: ${message}`, { details });
  if (!plan.fits) throw refuse(`the plan does not fit: ${plan.shortages.map(shortageText).join('; ') || plan.reasons.at(-1)?.message}`, { shortages: plan.shortages });
  for (const { device, description } of plan.memory) {
    const here = known.find(({ id }) => id === device);
    if (here === undefined) throw refuse(`the plan puts a part on ${device} (${description}), which is not here`, { device });
    if (describe(here) !== description) throw refuse(`the plan was made for another machine: ${device} was ${description} and is ${describe(here)}`, { device });
  }
  const settings = {
    allowFallback: plan.allowFallback, gpuLayers: plan.gpuLayers, experts: plan.experts, expertCache: { deviceBytes: plan.expertCacheBytes }, sequences: plan.sequences, kvTokens: plan.kvTokens, spareSequences: plan.spareSequences, threads: plan.threads, ubatch: plan.ubatch, flashAttention: plan.flashAttentionAsked,
    kv: plan.kv as { readonly k: KvType; readonly v: KvType }, mmap: options.mmap, packCache: options.packCache, countExperts: options.countExperts,
    cache: { ...options.cache, ramBytes: plan.ramBytes, checkpointBytes: plan.checkpointBytes },
  };
  const native = nativeLoadOptions(path, settings, plan.devices.filter((id) => id !== 'cpu'), known, plan.context);
  const { info, placement } = await abortable(options.signal, () => addon().dryRun(native, null));
  const same = info.architecture === plan.model.architecture && info.parameters === plan.model.parameters && info.layers === plan.model.layers;
  if (!same) throw refuse(`the plan was made for another model: ${plan.model.name} (${plan.model.architecture}, ${plan.model.parameters} parameters), and this is ${info.name} (${info.architecture}, ${info.parameters})`, { path });
  const part = (device: string) => plan.memory.find((each) => each.device === device);
  // A plan may take all but the reserve to the last byte, and other programs are never still: half of the reserve is for that.
  const half = (bytes = 0) => Math.floor(bytes / 2);
  const reserve = { hostBytes: half(part('cpu')?.reserveBytes), deviceBytes: half(plan.memory.find(({ device }) => device !== 'cpu')?.reserveBytes) };
  const memory = plannedMemory(placement.devices, known, reserve, part('cpu')?.cacheBytes ?? 0);
  const missing = shortages(memory);
  if (missing.length > 0) throw refuse(`the plan does not fit any more: ${missing.map(shortageText).join('; ')}`, { shortages: missing, memory });
  return native;
}
