/**
 * The speed of a model over the number of its layers on a GPU.
 */
import { TernionError, fromNative } from '../errors.js';
import type { LoadOptions } from '../load.js';
import { recall, remember } from '../measured.js';
import { Measuring, speedScript } from './measuring.js';
import type { MeasuringOptions, Series } from './measuring.js';
import { readLayerRequest } from './options.js';

/** Request of {@link sweepLayers}. */
export interface LayerRequest extends MeasuringOptions, Pick<LoadOptions, 'devices' | 'packCache'> {
  /** Numbers of layers to measure; one more than the model has takes the output with it. Default: nine from none to all. */
  readonly layers?: readonly number[] | undefined;
}

/** What {@link sweepLayers} found: `settings.gpuLayers` of each figure says which; ratios are to none. Plain data. */
export interface LayerSweep extends Series {
  readonly devices: readonly string[];
  /** Of the model, its output counted as one more. */
  readonly layers: number;
  /** The numbers of layers with the highest medians. */
  readonly best: { readonly decode: number; readonly prefill: number };
  readonly prompt: number;
  readonly tokens: number;
  readonly rounds: number;
  readonly context: number;
  /** It is an earlier call's. */
  readonly stored: boolean;
}

/**
 * Measures a model with none, some and all of its layers on the GPU, the rest on the CPU; as {@link tune} does, each sample in a process
 * of its own, in turns. A GPU that the CPU plays has to be named in `devices`.
 *
 * @throws as {@link tune}; ERR_DEVICE_NOT_FOUND where there is no GPU.
 */
export function sweepLayers(path: string, request: LayerRequest = {}): Promise<LayerSweep> {
  const checked = readLayerRequest(path, request);
  return sweepWith(path, checked, speedScript);
}

const kind = 'tune-layers';

/** @internal With another program as the samples' child. */
export async function sweepWith(path: string, request: LayerRequest, child: string): Promise<LayerSweep> {
  try {
    return await sweep(path, request, child);
  } catch (failure) {
    throw fromNative(failure, request.signal?.aborted ? { cause: request.signal.reason } : {});
  }
}

async function sweep(path: string, request: LayerRequest, child: string): Promise<LayerSweep> {
  const { devices, packCache } = request;
  const base = { gpuLayers: 0, ...(devices !== undefined && { devices }), ...(packCache !== undefined && { packCache }) };
  const measuring = await Measuring.open(path, base, request, child);
  const gpus = measuring.plan.devices.filter((id) => id !== 'cpu');
  if (gpus.length === 0) {
    throw new TernionError('ERR_DEVICE_NOT_FOUND', 'sweepLayers: there is no GPU to put layers on; one that the CPU plays has to be named in devices', { details: { device: 'gpu', available: ['cpu'] } });
  }
  const layers = measuring.plan.model.layers + 1;
  const counts = request.layers ?? Array.from({ length: 9 }, (_, i) => Math.round((i * layers) / 8));
  const points = [...new Set(counts.map((count) => Math.min(count, layers)))].sort((a, b) => a - b).map((gpuLayers) => ({ gpuLayers }));
  const key = { ...measuring.key, points };
  const old = request.fresh ? undefined : await recall(kind, key);
  if (isSweep(old)) return { ...old, stored: true };
  const series = await measuring.series(points, 'layers');
  const most = (test: 'decode' | 'prefill') => series.figures.reduce((best, figure) => (figure[test].median > best[test].median ? figure : best), series.figures[0]!).settings.gpuLayers as number;
  if (series.figures.length === 0) throw new TernionError('ERR_INTERNAL', `sweepLayers: no number of layers could be measured: ${series.missing[0]?.reason}`);
  const { prompt, tokens, rounds, context } = measuring;
  const result: LayerSweep = { ...series, devices: gpus, layers, best: { decode: most('decode'), prefill: most('prefill') }, prompt, tokens, rounds, context, stored: false };
  if (measuring.lasting) await remember(kind, key, result);
  return result;
}

function isSweep(value: unknown): value is LayerSweep {
  if (typeof value !== 'object' || value === null) return false;
  const { figures, missing, best, base, control } = value as Partial<Record<keyof LayerSweep, unknown>>;
  return Array.isArray(figures) && figures.length > 0 && Array.isArray(missing) && [best, base, control].every((part) => typeof part === 'object' && part !== null);
}
