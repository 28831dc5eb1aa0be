/**
 * What a plan's request accepts.
 */
import { z } from 'zod/mini';
import { loadShape } from '../load-options.js';
import { bag, bytes, intFrom, optional, orAgain, read } from '../options.js';
import { check, refuse } from '../validate.js';
import type { ContextRange, PlanRequest, ReserveOptions } from './request.js';

/** With what only a plan can choose. */
export const experts = optional(z.union([loadShape.experts, z.literal('auto')], { error: "'auto', 'gpu', 'cpu', { cpuLayers } or { overrides }" }));
export const reserve = optional(bag<ReserveOptions>({ hostBytes: optional(bytes), deviceBytes: optional(bytes) }));
const { devices, sequences, kvTokens, spareSequences, cache, threads, ubatch, flashAttention, packCache, signal, gpuLayers, expertCache, allowFallback, context, kv } = loadShape;
const range = bag<ContextRange>({ min: intFrom(1), max: optional(intFrom(1)) }, "'trained', an integer of at least 1, or { min, max }");

const request = bag<PlanRequest>({
  devices, sequences, kvTokens, spareSequences, cache, threads, ubatch, flashAttention, packCache, signal, gpuLayers, experts, reserve, allowFallback,
  context: z.union([context, range], { error: "'trained', an integer of at least 1, or { min, max }, in tokens" }),
  expertCache: z.union([expertCache, z.literal('auto')], { error: "'auto' or { deviceBytes }" }),
  kv: z.union([kv, z.literal('auto')], { error: "'auto', a type of KV cache, or { k, v } of them" }),
  measure: optional(orAgain),
  allowSplit: optional(z.boolean({ error: 'true or false' })),
});

/** Of `plan.set`: a path and a request each, all with one signal. */
export function readPlanRequests(entries: unknown, options: unknown): { path: string; request: PlanRequest }[] {
  const { signal: common } = check('plan.set', 'options', bag<Pick<PlanRequest, 'signal'>>({ signal }), options);
  if (!Array.isArray(entries) || entries.length === 0) refuse('plan.set', 'entries', 'entries must be an array of at least one { path, …request }');
  return entries.map((entry: unknown, i) => {
    if (typeof entry !== 'object' || entry === null) refuse('plan.set', `entries[${i}]`, `entries[${i}] must be an object of path and request`);
    const { path, ...own } = entry as { path?: unknown };
    if ('signal' in own) refuse('plan.set', `entries[${i}].signal`, `entries[${i}] has a signal; give one for all as the second argument`);
    return { path: path as string, request: { ...readPlanRequest(path, own), signal: common } };
  });
}

export function readPlanRequest(path: unknown, value: unknown, who = 'plan'): PlanRequest {
  read.path(who, 'path', path);
  const checked = check(who, 'request', request, value ?? {});
  const { context: asked } = checked;
  if (typeof asked === 'object' && asked.max !== undefined && asked.max < asked.min) {
    refuse(who, 'request.context', `request.context.max must be at least min (${asked.min}); found ${asked.max}`);
  }
  return checked;
}
