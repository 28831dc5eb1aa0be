/**
 * What `findMaxContext` accepts.
 */
import { z } from 'zod/mini';
import { loadShape } from '../load-options.js';
import { bag, boolean, intFrom, onProgress, optional, read } from '../options.js';
import { experts, reserve } from '../plan/options.js';
import { check, refuse } from '../validate.js';
import type { CeilingBounds, CeilingRequest } from './ceiling.js';
import type { CeilingProbe } from './stored.js';

const { devices, gpuLayers, sequences, spareSequences, threads, ubatch, flashAttention, kv, packCache, signal } = loadShape;
export const timeoutMs = optional(intFrom(1));
const onProbe = z.custom<(probe: CeilingProbe) => void>((value) => typeof value === 'function', { error: 'a function' });

const request = bag<CeilingRequest>({
  devices, gpuLayers, sequences, spareSequences, threads, ubatch, flashAttention, kv, packCache, signal, experts, reserve,
  context: optional(bag<CeilingBounds>({ min: optional(intFrom(2)), max: optional(intFrom(2)) }, '{ min, max }, in tokens')),
  probeTimeoutMs: timeoutMs,
  fresh: optional(boolean),
  onProbe: optional(onProbe),
  onProgress: optional(onProgress),
});

export function readCeilingRequest(path: unknown, value: unknown): CeilingRequest {
  read.path('findMaxContext', 'path', path);
  const checked = check('findMaxContext', 'request', request, value ?? {});
  const { min, max } = checked.context ?? {};
  if (min !== undefined && max !== undefined && max < min) refuse('findMaxContext', 'request.context', `request.context.max must be at least min (${min}); found ${max}`);
  return checked;
}
