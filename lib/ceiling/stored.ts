/**
 * What probes found, as it is kept for later calls and for plans.
 */
import { defaultFallback } from '../devices.js';
import { recall, remember } from '../measured.js';
import type { NativeDevice } from '../native.js';
import type { PlanRequest } from '../plan/request.js';
import type { LimitOf } from '../plan/search.js';
import { findingKey, modelIdentity } from '../probe/identity.js';
import { outcomes } from '../probe/run.js';
import type { ProbeOutcome, ProbeEnd } from '../probe/run.js';
import type { CeilingFigures } from './child.js';

/** A probe of one context. */
export interface CeilingProbe extends ProbeEnd, Partial<CeilingFigures> {
  readonly context: number;
  /** It was made by an earlier call. */
  readonly stored: boolean;
}

const kind = 'ceiling';

/** The probes that were made with these settings, the shortest context first; what is no list of them counts as none. */
export async function storedProbes(key: object): Promise<CeilingProbe[]> {
  const value = await recall(kind, key);
  if (!Array.isArray(value) || !value.every(isProbe)) return [];
  return value.map((probe) => ({ ...probe, stored: true })).sort((a, b) => a.context - b.context);
}

export async function storeProbes(key: object, probes: readonly CeilingProbe[]): Promise<void> {
  await remember(kind, key, probes.map(({ stored: _, ...probe }) => probe));
}

function isProbe(value: unknown): value is CeilingProbe {
  if (typeof value !== 'object' || value === null) return false;
  const { context, outcome, message } = value as Partial<CeilingProbe>;
  return Number.isInteger(context) && (context as number) > 0 && outcomes.includes(outcome as ProbeOutcome) && typeof message === 'string';
}

/**
 * For plans: what earlier probes say of settings of theirs. Nothing of a pool of a size of its own: probes have one of `context * sequences`
 * cells, which shrinks with the context.
 */
export function storedLimits(path: string, request: PlanRequest, known: readonly NativeDevice[]): LimitOf | undefined {
  if (request.kvTokens !== undefined) return undefined;
  const allowFallback = request.allowFallback ?? defaultFallback(request.devices, process.env['TERNION_DEVICES']);
  let model: Promise<string | undefined> | undefined;
  return async ({ gpus, gpuLayers, experts }, kv, flashAttention) => {
    const identity = await (model ??= modelIdentity(path));
    if (identity === undefined) return undefined;
    return limitOf(await storedProbes(findingKey(identity, known, { ...request, gpus, gpuLayers, experts, kv, flashAttention, allowFallback })))?.fails;
  };
}

/** The shortest context that did not work, and the longest below it that did; 0 if none did. */
export interface Limit {
  readonly works: number;
  readonly fails: CeilingProbe;
}

/** Where the probes end; undefined if all of them work. */
export function limitOf(probes: readonly CeilingProbe[]): Limit | undefined {
  const fails = probes.filter(({ outcome }) => outcome !== 'works').reduce<CeilingProbe | undefined>((least, probe) => (least === undefined || probe.context < least.context ? probe : least), undefined);
  if (fails === undefined) return undefined;
  return { works: Math.max(0, ...probes.filter(({ outcome, context }) => outcome === 'works' && context < fails.context).map(({ context }) => context)), fails };
}
