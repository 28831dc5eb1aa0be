/**
 * How fast a planned model would be: its steps, measured here by llama.cpp itself in memory that stands in for the model's.
 */
import { createHash } from 'node:crypto';
import { addon, addonBuild } from '../addon.js';
import { caches } from '../bench/caches.js';
import { knownBandwidth } from '../devices.js';
import { fromNative } from '../errors.js';
import type { KvType } from '../kv.js';
import { recall, remember } from '../measured.js';
import type { NativeStepTime } from '../native-measuring.js';
import { nativeLoadOptions } from '../native-options.js';
import type { NativeDevice, NativeInspection } from '../native.js';
import { abortable } from '../task.js';
import { describe } from './memory.js';
import type { Plan } from './plan.js';
import type { PlanRequest } from './request.js';

/** Speed after so many tokens of one conversation. */
export interface SpeedAtDepth {
  readonly depth: number;
  /** Of a long prompt's next tokens; undefined where it is not known. */
  readonly prefillTokensPerSecond: number | undefined;
  readonly decodeTokensPerSecond: number;
  /** Weights and cells that a decoded token reads: of a mixture the experts that work on it. */
  readonly readBytesPerToken: number;
}

/** What a planned model would do here, with nothing beside it. */
export interface PlannedSpeed {
  /**
   * `'steps'`: its steps were measured here, at depth 0 and at 4096, or as deep as the model was trained for; between them and beyond, time grows evenly. `'bandwidth'`: from bytes per
   * token and what the device reads per second, which it will not surpass.
   */
  readonly basis: 'steps' | 'bandwidth';
  /** At depth 0. */
  readonly prefillTokensPerSecond: number | undefined;
  /** At depth 0. */
  readonly decodeTokensPerSecond: number;
  /** At 0, at 4096 and at the end of the context, as far as the context goes. */
  readonly depth: readonly SpeedAtDepth[];
  /** Something else used the machine while it was measured: measure again. Such a measurement is not kept. */
  readonly disturbed: boolean;
}

/** What of a model's header decides how fast it is. */
export interface ModelFacts {
  /** Of tensors and numbers of the metadata. */
  readonly digest: string;
  /** Of all weights of the routed experts, those that work on one token. */
  readonly expertShare: number;
  /** The embeddings in the file are those of the output, too. */
  readonly tiedBytes: number | undefined;
}

/** Seconds of steps; of decoding steps of one token, of prefill of {@link prefillTokens}. */
export interface StepSeconds {
  readonly depth: number;
  readonly decode: number;
  readonly prefill: number;
}

export interface StepMeasurement {
  readonly steps: readonly StepSeconds[];
  readonly disturbed: boolean;
}

const format = 2; // raised when steps are measured otherwise
/** Of a step. */
const prefillTokens = ({ ubatch }: Pick<Plan, 'ubatch'>) => Math.min(2048, ubatch);
const deepest = 4096;
/** Depths that steps are measured at, for all contexts: nowhere that the model was not trained for. */
const depthsMeasured = ({ model, ...plan }: Pick<Plan, 'model' | 'ubatch'>) => {
  const deep = Math.min(deepest, (model.trainedContext || Infinity) - prefillTokens(plan));
  return deep >= 256 ? [0, deep] : [0];
};
const mostUnrest = 1.25;
const gpuCacheBytes = 256 * 2 ** 20;

/** Why there is no measurement: no memory for it, or a model that does not generate. */
export class NotMeasured extends Error {}

/** The plan's speed, from measurements that are kept; `measure` makes those that are missing, `'again'` all. Undefined where there is none. */
export async function speedOf(plan: Plan, facts: ModelFacts, request: PlanRequest, known: readonly NativeDevice[]): Promise<PlannedSpeed | undefined> {
  const measured = await stepsOf(plan, facts, request, known);
  if (measured !== undefined) return fromSteps(plan, facts, measured);
  const rates = new Map<string, number>();
  const bytes = readBytes(plan, facts, 0);
  for (const device of known.filter(({ id }) => bytes.has(id))) {
    if (bytes.get(device.id)! < (device.id === 'cpu' ? 4 * caches().lastLevelBytes : gpuCacheBytes)) return undefined; // a cache may hold them
    const rate = await knownBandwidth(device);
    if (rate === undefined || (device.id === 'cpu' && plan.threads !== addon().kernels().threads)) return undefined;
    rates.set(device.id, rate);
  }
  return fromBandwidth(plan, facts, rates);
}

/** Undefined where they were not measured and shall not be; rejects with {@link NotMeasured} as well. */
export async function stepsOf(plan: Plan, facts: ModelFacts, request: Pick<PlanRequest, 'measure' | 'signal'>, known: readonly NativeDevice[]): Promise<StepMeasurement | undefined> {
  const { measure = false, signal } = request;
  const used = known.filter(({ id }) => id === 'cpu' || plan.devices.includes(id)).map((device) => ({ id: device.id, description: describe(device), capabilities: device.capabilities }));
  const { gpuLayers, experts, kv, threads, ubatch, flashAttentionAsked: flashAttention, allowFallback } = plan;
    const depths = depthsMeasured(plan);
  const key = { format, depths, model: facts.digest, addon: addonBuild(), kernels: process.env['TERNION_KERNEL'] ?? '', used, gpuLayers, experts, kv, threads, ubatch, flashAttention };
  const kept = measure === 'again' ? undefined : await recall('steps', key);
  if (isSteps(kept, depths)) return { steps: kept, disturbed: false };
  if (measure === false) return undefined;
  const settings = { gpuLayers, experts, threads, ubatch, flashAttention, allowFallback, kv: kv as { readonly k: KvType; readonly v: KvType }, sequences: 1, cache: { ramBytes: 0, checkpointBytes: 0 } };
  const options = nativeLoadOptions(plan.path, settings, plan.devices.filter((id) => id !== 'cpu'), known, plan.context);
  const points = depths.flatMap((depth) => [{ tokens: 1, depth }, { tokens: prefillTokens(plan), depth }]);
  const { points: times } = await oneAtATime(() => abortable(signal, () => addon().stepTimes(options, points, null))).catch((failure: unknown) => {
    const { code, message } = fromNative(failure);
    throw code === 'ERR_OUT_OF_MEMORY' || code === 'ERR_INVALID_ARG' ? new NotMeasured(message) : failure;
  });
  const of = (depth: number, tokens: number) => times.find((time) => time.depth === depth && time.tokens === tokens) as NativeStepTime;
  const steps = depths.map((depth) => ({ depth, decode: of(depth, 1).seconds, prefill: of(depth, prefillTokens(plan)).seconds }));
  if (!isSteps(steps, depths)) throw new NotMeasured('other programs took so much of the machine that what was measured makes no sense');
  const disturbed = times.some(({ unrest }) => unrest > mostUnrest);
  if (!disturbed) await remember('steps', key, steps);
  return { steps, disturbed };
}

let last: Promise<unknown> = Promise.resolve();
/** Two measurements at once would measure each other. */
function oneAtATime<T>(work: () => Promise<T>): Promise<T> {
  const done = last.then(work);
  last = done.catch(() => {});
  return done;
}

function isSteps(value: unknown, depths: readonly number[]): value is readonly StepSeconds[] {
  const positive = (n: unknown) => typeof n === 'number' && n > 0 && Number.isFinite(n);
  return Array.isArray(value) && value.length === depths.length && value.every((step: Partial<StepSeconds> | null, i) => step?.depth === depths[i] && positive(step?.decode) && positive(step?.prefill));
}

export function modelFacts({ metadata, tensors }: Pick<NativeInspection, 'metadata' | 'tensors'>): ModelFacts {
  const numbers = metadata.filter(({ key, value }) => !key.startsWith('tokenizer.') && (typeof value === 'number' || typeof value === 'boolean' || key === 'general.architecture'));
  const text = JSON.stringify([numbers.map(({ key, value }) => [key, value]), tensors.map(({ name, type, shape }) => [name, type, shape])]);
  const find = (suffix: string) => metadata.find(({ key, value }) => key.endsWith(suffix) && typeof value === 'number')?.value as number | undefined;
  const [count, used] = [find('.expert_count') ?? 0, find('.expert_used_count') ?? 0];
  const embedding = tensors.find(({ name }) => name === 'token_embd.weight');
  return {
    digest: createHash('sha256').update(text).digest('hex'),
    expertShare: count > 0 && used > 0 ? Math.min(1, used / count) : 1,
    tiedBytes: tensors.some(({ name }) => name === 'output.weight') ? undefined : embedding?.bytes,
  };
}

/** Bytes that a token reads after `depth` others, by device. The cells of a window are counted as if they grew with the others. */
export function readBytes(plan: Pick<Plan, 'weights' | 'memory' | 'kvTokens'>, facts: Pick<ModelFacts, 'expertShare' | 'tiedBytes'>, depth: number): Map<string, number> {
  const bytes = new Map<string, number>();
  const add = (device: string, n: number) => bytes.set(device, (bytes.get(device) ?? 0) + n);
  let tied = facts.tiedBytes ?? 0;
  for (const { device, role, bytes: held } of [...plan.weights].reverse()) { // the CPU's come first, whose copy beside a GPU has the rows
    if (role === 'embedding') { // rows of it, unless they are the output's matrix
      add(device, Math.min(held, tied));
      tied -= Math.min(held, tied);
    } else {
      add(device, role === 'experts' ? held * facts.expertShare : held);
    }
  }
  for (const { device, kvBytes } of plan.memory) add(device, (kvBytes / plan.kvTokens) * depth);
  for (const [device, n] of bytes) if (n === 0) bytes.delete(device);
  return bytes;
}

const depthsOf = ({ context }: Pick<Plan, 'context'>) => [...new Set([...[0, deepest].filter((depth) => depth < context), context])];
const total = (bytes: ReadonlyMap<string, number>) => Math.round([...bytes.values()].reduce((sum, n) => sum + n, 0));

/** Seconds at any depth: on the line through the measured ones. */
export function secondsAt(steps: readonly StepSeconds[], depth: number, of: 'decode' | 'prefill'): number {
  const [first, last] = [steps[0]!, steps.at(-1)!];
  if (last.depth === first.depth) return first[of];
  // More cells never take less time: what says otherwise is noise.
  return first[of] + (Math.max(0, last[of] - first[of]) * (depth - first.depth)) / (last.depth - first.depth);
}

export function fromSteps(plan: Pick<Plan, 'weights' | 'memory' | 'kvTokens' | 'context' | 'ubatch'>, facts: ModelFacts, { steps, disturbed }: StepMeasurement): PlannedSpeed {
  const rows = depthsOf(plan).map((depth) => ({
    depth,
    prefillTokensPerSecond: prefillTokens(plan) / secondsAt(steps, depth, 'prefill'),
    decodeTokensPerSecond: 1 / secondsAt(steps, depth, 'decode'),
    readBytesPerToken: total(readBytes(plan, facts, depth)),
  }));
  return speed('steps', rows, disturbed);
}

export function fromBandwidth(plan: Pick<Plan, 'weights' | 'memory' | 'kvTokens' | 'context' | 'ubatch'>, facts: ModelFacts, rates: ReadonlyMap<string, number>): PlannedSpeed {
  const rows = depthsOf(plan).map((depth) => {
    const bytes = readBytes(plan, facts, depth);
    const seconds = [...bytes].reduce((sum, [device, n]) => sum + (n === 0 ? 0 : n / (rates.get(device) ?? Number.NaN)), 0); // devices read in turn
    return { depth, prefillTokensPerSecond: undefined, decodeTokensPerSecond: 1 / seconds, readBytesPerToken: total(bytes) };
  });
  return speed('bandwidth', rows, false);
}

function speed(basis: PlannedSpeed['basis'], rows: readonly SpeedAtDepth[], disturbed: boolean): PlannedSpeed {
  const [first] = rows;
  return { basis, prefillTokensPerSecond: first!.prefillTokensPerSecond, decodeTokensPerSecond: first!.decodeTokensPerSecond, depth: rows, disturbed };
}

const rate = (tokensPerSecond: number) => (tokensPerSecond >= 100 ? tokensPerSecond.toFixed(0) : tokensPerSecond.toPrecision(3));

/** "decode 63 tok/s, prefill 130; after 4096 tokens 27 and 95". */
export function speedText({ basis, depth, disturbed }: PlannedSpeed): string {
  const parts = depth.map((row, i) => {
    const [decode, prefill] = [rate(row.decodeTokensPerSecond), row.prefillTokensPerSecond === undefined ? undefined : rate(row.prefillTokensPerSecond)];
    if (i === 0) return `decode ${decode} tok/s${prefill === undefined ? '' : `, prefill ${prefill}`}`;
    return `after ${row.depth} tokens ${decode}${prefill === undefined ? '' : ` and ${prefill}`}`;
  });
  const how = basis === 'bandwidth' ? ' at most, by what memory allows (--measure says more)' : disturbed ? ' (the machine was busy: measure again)' : '';
  return `${parts.join('; ')}${how}`;
}
