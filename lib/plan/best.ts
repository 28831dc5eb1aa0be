/**
 * `plan.best()`: which of several files of a model is best here.
 */
import { addon } from '../addon.js';
import { needsGpu } from '../devices.js';
import { TernionError, fromNative } from '../errors.js';
import { atLeast0, optional, read } from '../options.js';
import { check, refuse } from '../validate.js';
import { bytesText } from './draw.js';
import { readPlanRequest } from './options.js';
import { planFor } from './plan.js';
import type { Plan } from './plan.js';
import type { PlanRequest } from './request.js';

/** Request of {@link planBest}. */
export interface BestRequest extends PlanRequest {
  /** Decoded at depth 0, as predicted: a file that is slower is only taken if none is fast enough. Needs `measure`, unless it was measured before. */
  readonly minTokensPerSecond?: number | undefined;
}

/** One of the files. */
export interface RankedFile {
  readonly path: string;
  readonly plan: Plan;
  /** Of the whole file. More of them are nearer to the model as it was trained; how near, only a comparison of outputs tells. */
  readonly bitsPerWeight: number;
  /** In words: where it fits, how fast it is, and with which kernels. */
  readonly reason: string;
}

export interface BestFile {
  /** Undefined if none fits. */
  readonly best: RankedFile | undefined;
  /** Best first. */
  readonly files: readonly RankedFile[];
}

/**
 * Which of several files of one model, quantised differently, is best on this machine: of those that fit on the best device the one with the most
 * bits per weight, and, with `minTokensPerSecond`, of those that are fast enough.
 *
 * @throws as {@link plan}; rejects with ERR_INVALID_ARG for files of different models.
 * @example
 * ```ts
 * const { best, files } = await plan.best(['m-q8_0.gguf', 'm-q4_k.gguf'], { measure: true, minTokensPerSecond: 10 });
 * ```
 */
export function planBest(paths: readonly string[], request: BestRequest = {}): Promise<BestFile> {
  if (!Array.isArray(paths) || paths.length === 0) refuse('plan.best', 'paths', 'paths must be an array of at least one path');
  paths.forEach((path: unknown, i) => read.path('plan.best', `paths[${i}]`, path));
  const { minTokensPerSecond, ...rest } = request ?? {};
  const least = check('plan.best', 'request.minTokensPerSecond', optional(atLeast0), minTokensPerSecond);
  const checked = readPlanRequest(paths[0], rest, 'plan.best');
  return rank(paths, checked, least).catch((failure: unknown) => Promise.reject(fromNative(failure, request.signal?.aborted ? { cause: request.signal.reason } : {})));
}

async function rank(paths: readonly string[], request: PlanRequest, least: number | undefined): Promise<BestFile> {
  const { devices: known } = await addon().devices(needsGpu(request.devices, process.env['TERNION_DEVICES']));
  const plans: Plan[] = [];
  for (const path of paths) plans.push(await planFor(path, request, known)); // one after the other: measurements share the machine
  const [{ model }] = plans as [Plan];
  const other = plans.find((plan) => plan.model.architecture !== model.architecture || plan.model.layers !== model.layers || plan.model.embeddingSize !== model.embeddingSize);
  if (other !== undefined) {
    const text = (m: Plan['model']) => `${m.name} (${m.architecture}, ${m.layers} layers of ${m.embeddingSize})`;
    throw new TernionError('ERR_INVALID_ARG', `plan.best: files of one model are compared; found ${text(model)} and ${text(other.model)}`, { details: { argument: 'paths', path: other.path } });
  }
  const files = plans.map((plan) => ({ path: plan.path, plan, bitsPerWeight: bitsPerWeight(plan) })).sort((a, b) => compare(a, b, least));
  const ranked = files.map((file) => ({ ...file, reason: reasonOf(file.plan, file.bitsPerWeight, least) }));
  return { best: ranked.find(({ plan }) => plan.fits), files: ranked };
}

const bitsPerWeight = ({ model }: Plan) => (8 * model.fileBytes) / model.parameters;

/** All on a GPU, the CPU alone, and what is on both, in this order. */
function device({ weights, devices }: Plan): number {
  if (devices.every((id) => id === 'cpu')) return 1;
  return weights.some((part) => part.device === 'cpu' && part.role !== 'embedding') ? 2 : 0;
}

type Candidate = Pick<RankedFile, 'plan' | 'bitsPerWeight'>;

/** Unknown speed is not fast enough. */
const slow = ({ plan }: Candidate, least: number | undefined) => least !== undefined && !((plan.speed?.decodeTokensPerSecond ?? 0) >= least);

/** What fits before what does not, what is fast enough before what is not, the better device before the worse, more bits before fewer. */
export function compare(a: Candidate, b: Candidate, least: number | undefined): number {
  const order = [
    Number(b.plan.fits) - Number(a.plan.fits),
    Number(slow(a, least)) - Number(slow(b, least)),
    slow(a, least) && slow(b, least) ? (b.plan.speed?.decodeTokensPerSecond ?? 0) - (a.plan.speed?.decodeTokensPerSecond ?? 0) : 0,
    device(a.plan) - device(b.plan),
    b.bitsPerWeight - a.bitsPerWeight,
    (b.plan.speed?.decodeTokensPerSecond ?? 0) - (a.plan.speed?.decodeTokensPerSecond ?? 0),
  ];
  return order.find((difference) => difference !== 0) ?? 0;
}

function reasonOf(plan: Plan, bits: number, least: number | undefined): string {
  const size = `${bits.toFixed(2)} bits per weight, ${bytesText(plan.model.fileBytes)}`;
  if (!plan.fits) return `${size}: does not fit`;
  const where = ['all on ', 'on ', 'on both '][device(plan)] + (device(plan) === 2 ? `${plan.devices.join(' and ')} and the CPU` : plan.devices.join(' and '));
  const { speed } = plan;
  const fast = speed === undefined ? 'speed unknown (measure)' : `${speed.decodeTokensPerSecond.toPrecision(3)} tok/s${speed.basis === 'bandwidth' ? ' at most' : ''}`;
  const enough = least === undefined ? '' : slow({ plan, bitsPerWeight: bits }, least) ? `, not the ${least} that were asked for` : `, at least the ${least} that were asked for`;
  const kernels = plan.devices.includes('cpu') && plan.kernels !== undefined ? `, kernels: ${plan.kernels}` : '';
  return `${size}: ${where}, ${fast}${enough}${kernels}`;
}
