/**
 * What `tune` and `sweepLayers` accept.
 */
import { z } from 'zod/mini';
import { timeoutMs } from '../ceiling/options.js';
import { kvTypes } from '../kv.js';
import { loadShape } from '../load-options.js';
import { bag, boolean, intFrom, oneOf, optional, read } from '../options.js';
import type { Shape } from '../options.js';
import { experts } from '../plan/options.js';
import { check, refuse } from '../validate.js';
import type { MeasuringOptions } from './measuring.js';
import type { LayerRequest } from './layers.js';
import type { TuneRequest } from './tune.js';

const { devices, gpuLayers, packCache, signal } = loadShape;
const onProgress = z.custom<(fraction: number, what: string) => void>((value) => typeof value === 'function', { error: 'a function' });
const list = <T>(type: z.ZodMiniType<T>, expected: string) => optional(z.array(type, { error: expected })) as z.ZodMiniType<readonly T[] | undefined>;

const measuring: Shape<MeasuringOptions> = {
  context: optional(intFrom(32)), prompt: optional(intFrom(1)), tokens: optional(intFrom(2)), rounds: optional(intFrom(2, 1000)),
  probeTimeoutMs: timeoutMs,
  fresh: optional(z.union([z.boolean(), z.literal('all')], { error: "true, false or 'all'" })),
  onProgress: optional(onProgress), signal,
};
const tuneRequest = bag<TuneRequest>({
  ...measuring, devices, gpuLayers, experts: experts as z.ZodMiniType<TuneRequest['experts']>, packCache,
  ubatch: list(intFrom(1, 16_384), 'an array of numbers of tokens'),
  flashAttention: list(boolean, 'an array of true or false'),
  kv: list(oneOf(kvTypes), 'an array of types of KV cache'),
  threads: list(intFrom(1, 512), 'an array of numbers of threads'),
});
const layerRequest = bag<LayerRequest>({ ...measuring, devices, packCache, layers: list(intFrom(0, 1001), 'an array of numbers of layers') });

export function readTuneRequest(path: unknown, value: unknown): TuneRequest {
  read.path('tune', 'path', path);
  return fitting('tune', check('tune', 'request', tuneRequest, value ?? {}));
}

export function readLayerRequest(path: unknown, value: unknown): LayerRequest {
  read.path('sweepLayers', 'path', path);
  return fitting('sweepLayers', check('sweepLayers', 'request', layerRequest, value ?? {}));
}

function fitting<T extends MeasuringOptions>(call: string, options: T): T {
  const { context, prompt = 0, tokens = 0 } = options;
  if (context !== undefined && prompt + tokens >= context) refuse(call, 'request.prompt', `request.prompt and tokens (${prompt + tokens} together) must be less than context (${context})`);
  return options;
}
