/**
 * `plan.sweep()`: a mixture's experts beside a GPU, layer by layer.
 */
import { addon } from '../addon.js';
import { defaultDevices, defaultFallback, needsGpu } from '../devices.js';
import { TernionError, fromNative } from '../errors.js';
import type { NativeDevice } from '../native.js';
import { readPlanRequest } from './options.js';
import { planFor } from './plan.js';
import type { Plan } from './plan.js';
import type { PlannedMemory } from './memory.js';
import type { PlanRequest } from './request.js';
import { NotMeasured, fromSteps, modelFacts, stepsOf } from './speed.js';
import type { PlannedSpeed, StepMeasurement } from './speed.js';

/** The experts of so many layers in the CPU's memory. */
export interface SweepRow {
  readonly cpuLayers: number;
  readonly fits: boolean;
  readonly memory: readonly PlannedMemory[];
  /** Undefined where it was not measured, see {@link PlanRequest.measure}. */
  readonly speed: PlannedSpeed | undefined;
}

export interface ExpertSweep {
  readonly model: Plan['model'];
  readonly devices: readonly string[];
  readonly context: number;
  /** From all experts on the GPU to none. */
  readonly rows: readonly SweepRow[];
  /** What a plan of `experts: 'auto'` would take: the fewest layers that fit; undefined if none does. */
  readonly chosen: number | undefined;
}

/**
 * Plans a mixture with the experts of 0, 1, … all of its layers in the CPU's memory, and everything else on the GPU. Speeds are known from
 * steps with all experts on either side: each layer that moves costs the same.
 *
 * @throws as {@link plan}; rejects with ERR_INVALID_ARG for a model without experts, and where no GPU is used.
 * @example
 * ```ts
 * const { rows, chosen } = await plan.sweep('mixture.gguf', { devices: ['vulkan0'], measure: true });
 * ```
 */
export function planSweep(path: string, request: Omit<PlanRequest, 'experts' | 'expertCache'> = {}): Promise<ExpertSweep> {
  const checked = readPlanRequest(path, request, 'plan.sweep');
  if (checked.experts !== undefined) throw invalid('request.experts is what a sweep goes through; leave it out', 'request.experts');
  if (checked.expertCache !== undefined) throw invalid('request.expertCache is not part of a sweep, whose speeds are those without a cache; leave it out', 'request.expertCache');
  return sweep(path, checked).catch((failure: unknown) => Promise.reject(fromNative(failure, request.signal?.aborted ? { cause: request.signal.reason } : {})));
}

const invalid = (what: string, argument: string) => new TernionError('ERR_INVALID_ARG', `plan.sweep: ${what}`, { details: { argument } });

async function sweep(path: string, request: PlanRequest): Promise<ExpertSweep> {
  const { devices: known } = await addon().devices(needsGpu(request.devices, process.env['TERNION_DEVICES']));
  const gpus = (request.devices ?? defaultDevices(known, process.env['TERNION_DEVICES'])).filter((id) => id !== 'cpu');
  if (gpus.length === 0) throw invalid('experts move between a GPU and the CPU, and no GPU is used; name one with devices', 'request.devices');
  const { context: asked } = request;
  const context = typeof asked === 'object' ? (asked.max ?? asked.min) : asked;
  const allowFallback = request.allowFallback ?? defaultFallback(request.devices, process.env['TERNION_DEVICES']);
  const at = (cpuLayers: number) => planFor(path, { ...request, allowFallback, devices: gpus, context, measure: false, experts: { cpuLayers } }, known);
  const first = await at(0);
  const layers = first.weights.filter(({ role }) => role === 'experts').map(({ layer }) => layer);
  if (layers.length === 0) throw invalid(`${first.model.name} has no experts`, 'path');
  const speeds = await speedsOf(first, Math.max(...layers) + 1, layers, request, known);
  const rows: SweepRow[] = [];
  for (let cpuLayers = 0; cpuLayers <= Math.max(...layers) + 1; cpuLayers++) {
    if (cpuLayers > 0 && cpuLayers <= Math.min(...layers)) continue; // layers without experts
    const { fits, memory } = cpuLayers === 0 ? first : await at(cpuLayers);
    rows.push({ cpuLayers, fits, memory, speed: speeds(cpuLayers) });
  }
  return { model: first.model, devices: gpus, context: first.context, rows, chosen: rows.find(({ fits }) => fits)?.cpuLayers };
}

/** By number of layers: between the steps with all experts on the GPU and those with all in the CPU's memory. */
async function speedsOf(plan: Plan, all: number, layers: readonly number[], request: PlanRequest, known: readonly NativeDevice[]): Promise<(cpuLayers: number) => PlannedSpeed | undefined> {
  const facts = modelFacts(await addon().inspect(plan.path));
  const measure = (cpuLayers: number) =>
    stepsOf({ ...plan, experts: { cpuLayers } }, facts, request, known).catch((failure: unknown) => {
      if (failure instanceof NotMeasured) return undefined;
      throw failure;
    });
  const gpu = await measure(0);
  const cpu = await measure(all);
  if (gpu === undefined || cpu === undefined) return () => undefined;
  return (cpuLayers) => fromSteps(plan, facts, between(gpu, cpu, layers.filter((layer) => layer < cpuLayers).length / layers.length));
}

/** Steps of which a share of the layers is as in `b`, and the rest as in `a`. */
export function between(a: StepMeasurement, b: StepMeasurement, share: number): StepMeasurement {
  const mix = (x: number, y: number) => x + (y - x) * share;
  const steps = a.steps.map((step, i) => ({ depth: step.depth, decode: mix(step.decode, b.steps[i]!.decode), prefill: mix(step.prefill, b.steps[i]!.prefill) }));
  return { steps, disturbed: a.disturbed || b.disturbed };
}
