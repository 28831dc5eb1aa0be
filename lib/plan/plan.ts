/**
 * Where a model would go, before it is loaded.
 */
import { addon } from '../addon.js';
import { needsGpu } from '../devices.js';
import { fromNative, isTernionError } from '../errors.js';
import { recallLoadMs } from '../load-time.js';
import { trainedContextIn } from '../native-options.js';
import type { NativeDevice, NativeDryRun } from '../native.js';
import { readPlanRequest } from './options.js';
import type { PlannedMemory, Shortage } from './memory.js';
import { place } from './placing.js';
import type { PlanRequest, PlanSettings } from './request.js';
import { NotMeasured, modelFacts, speedOf } from './speed.js';
import type { PlannedSpeed } from './speed.js';

/** Why a plan is as it is. */
export interface Reason {
  /** What was decided: `device`, `context`, `kv`, `experts`, `split`, `cache`, `fallback`, `speed`, or `fit` for what is missing and what would fit instead. */
  readonly code: 'device' | 'context' | 'kv' | 'experts' | 'split' | 'cache' | 'fallback' | 'speed' | 'fit';
  /** The decision, its alternative, and what that costs. */
  readonly message: string;
}

/** Where a model would go. Plain data: `JSON.stringify` and `JSON.parse` give it back. */
export interface Plan extends PlanSettings {
  /** Of this shape. */
  readonly version: 1;
  readonly path: string;
  /** Name, architecture, layers …, as a loaded model tells them. */
  readonly model: NativeDryRun['info'];
  /** Whether all of it is there now, with the reserve left free. */
  readonly fits: boolean;
  readonly threads: number;
  readonly spareSequences: number;
  /** Budgets for conversations without cells, and for checkpoints. */
  readonly ramBytes: number;
  readonly checkpointBytes: number;
  /** By device, the CPU first. */
  readonly memory: readonly PlannedMemory[];
  /** What is missing; empty if the plan fits. */
  readonly shortages: readonly Shortage[];
  /** The weights by device, role and layer, as they would be held. */
  readonly weights: NativeDryRun['placement']['weights'];
  /** What a GPU would leave to the CPU, as {@link Placement.refused}. */
  readonly refused: NativeDryRun['placement']['refused'];
  readonly reasons: readonly Reason[];
  /** What loading took last time, here and on these devices; absent where this file was never loaded. */
  readonly expectedLoadMs?: number;
  /** Of the CPU, that the weights would be multiplied with there: `upstream`, or ours, with the ways in which types are held. */
  readonly kernels?: string | undefined;
  /** How fast it would be; undefined where that was not measured, see {@link PlanRequest.measure}, and for a plan that does not fit. */
  readonly speed?: PlannedSpeed | undefined;
}

/**
 * Plans a model's placement without loading it: llama.cpp itself lays it out, with a context, and takes nothing. Takes some 100 ms and
 * reads the file's header only, so a file whose weights are not here yet will do (`synthesize` with `headerOnly`).
 *
 * All of a model goes to a GPU, or else to the CPU; see {@link PlanRequest.allowSplit}.
 *
 * @throws ERR_INVALID_ARG at once; rejects with ERR_MODEL_NOT_FOUND, ERR_MODEL_INVALID, ERR_MODEL_UNSUPPORTED, ERR_DEVICE_NOT_FOUND or
 * ERR_ABORTED. A model that does not fit is a plan with `fits` false that says what would.
 * @example
 * ```ts
 * const { fits, context, memory } = await plan('model.gguf', { context: { min: 4096 } });
 * ```
 */
export function plan(path: string, request: PlanRequest = {}): Promise<Plan> {
  const checked = readPlanRequest(path, request);
  return planHere(path, checked).catch((failure: unknown) => Promise.reject(fromNative(failure, request.signal?.aborted ? { cause: request.signal.reason } : {})));
}

async function planHere(path: string, request: PlanRequest): Promise<Plan> {
  return withLoadTime(await planFor(path, request, (await addon().devices(needsGpu(request.devices, process.env['TERNION_DEVICES']))).devices));
}

/** @internal */
export async function withLoadTime(plan: Plan): Promise<Plan> {
  const expectedLoadMs = await recallLoadMs(plan.path, plan.devices);
  return expectedLoadMs === undefined ? plan : { ...plan, expectedLoadMs };
}

/** @internal With the memory of `known`, which may be another machine's; its ids have to be devices of this one. */
export async function planFor(path: string, request: PlanRequest, known: readonly NativeDevice[], useProbes = true): Promise<Plan> {
  const header = await readHeader(path);
  const placed = await place(path, request, known, header?.trained, useProbes);
  if (!placed.fits || header === undefined) return placed;
  try {
    const speed = await speedOf(placed, header.facts, request, known);
    return speed === undefined ? placed : { ...placed, speed };
  } catch (failure) {
    if (!(failure instanceof NotMeasured)) throw failure;
    return { ...placed, reasons: [...placed.reasons, { code: 'speed', message: `its speed was not measured: ${failure.message}` }] };
  }
}

/** What plans know of a header, read once: it may have a megabyte of words. Undefined where it cannot be read, which loading tells better. */
async function readHeader(path: string) {
  try {
    const header = await addon().inspect(path);
    return { trained: trainedContextIn(header), facts: modelFacts(header) };
  } catch (failure) {
    if (isTernionError(failure)) throw failure;
    return undefined;
  }
}
