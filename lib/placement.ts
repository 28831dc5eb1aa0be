/**
 * Where a loaded model is: as it says itself, as it was planned, and as the system sees it.
 */
import type { NativeDevice, NativePlacement } from './native.js';
import { bytesText } from './plan/draw.js';
import type { Plan } from './plan/plan.js';

/** Where the model really is, and how it was set up. */
export interface Placement extends NativePlacement {
  /** What the plan said, in the order of its devices; absent where the model was loaded without one. */
  readonly planned?: readonly NativePlacement['devices'][number][];
  /** What is not as it should be, each with both numbers; also in the log as `warn`. Empty if all is well. */
  readonly differences: readonly Difference[];
}

/** Two figures that are more than 3 % apart. */
export interface Difference {
  readonly device: string;
  /** `total`: of all parts together, compared with what the system says. */
  readonly part: (typeof parts)[number] | 'total';
  /** Of a plan, or, where the system is the one that differs, of the model's own buffers. */
  readonly expectedBytes: number;
  readonly actualBytes: number;
  /** Who says `actualBytes`: the loaded buffers, or the system as in {@link Placement.taken}. */
  readonly source: 'buffers' | NativePlacement['taken'][number]['source'];
  readonly message: string;
}

const parts = ['weightBytes', 'kvBytes', 'stateBytes', 'computeBytes', 'expertCacheBytes'] as const;
const names = { weightBytes: 'weights', kvBytes: 'KV cache', stateBytes: 'recurrent state', computeBytes: 'compute buffers', expertCacheBytes: 'slots for experts', total: 'memory' } as const;
const most = 0.03;
/** Buffers are aligned, and begin and end with pages. */
const alignmentBytes = 2 ** 16;
/** Vocabularies, staging buffers, what the driver and other programs do: not of the placement, and seen by the system. */
const overheadBytes = 64 * 2 ** 20;

/** @internal */
export function placementOf(native: NativePlacement, plan: Plan | undefined, known: readonly NativeDevice[]): Placement {
  const planned = plan?.memory.map(({ device, weightBytes, kvBytes, stateBytes, computeBytes, expertCacheBytes }) => ({ device, weightBytes, kvBytes, stateBytes, computeBytes, expertCacheBytes }));
  const differences = [...(planned === undefined ? [] : againstPlan(planned, native)), ...againstSystem(native, known)];
  return Object.freeze({ ...native, ...(planned && { planned }), differences });
}

function againstPlan(planned: NativePlacement['devices'], { devices }: NativePlacement): Difference[] {
  const ids = new Set([...planned, ...devices].map(({ device }) => device));
  return [...ids].flatMap((device) =>
    parts.flatMap((part) => {
      const [expectedBytes, actualBytes] = [planned, devices].map((list) => list.find((each) => each.device === device)?.[part] ?? 0) as [number, number];
      return apart(expectedBytes, actualBytes, alignmentBytes) ? [difference(device, part, expectedBytes, actualBytes, 'buffers', 'were planned')] : [];
    }),
  );
}

/**
 * The system sees all that the process took meanwhile, so what it sees beyond the placement tells something only where it is much. What
 * it does not see is not there: a driver that put it elsewhere, or pages of a mapped file that memory had no room for.
 */
function againstSystem({ devices, taken }: NativePlacement, known: readonly NativeDevice[]): Difference[] {
  const used = known.filter(({ id }) => id !== 'cpu' && devices.some(({ device }) => device === id));
  return taken.flatMap(({ device, source, bytes, fileBytes }) => {
    const place = devices.find((each) => each.device === device);
    if (place === undefined || (device === 'cpu' && used.some(({ software }) => software))) return []; // its memory is the process's too
    const { weightBytes, kvBytes, stateBytes, computeBytes, expertCacheBytes } = place;
    const cpu = device === 'cpu';
    const least = weightBytes + kvBytes + stateBytes + expertCacheBytes + (cpu ? 0 : computeBytes); // the CPU's compute buffers are taken when they are written
    const all = weightBytes + kvBytes + stateBytes + computeBytes + expertCacheBytes;
    const slack = source === 'fdinfo' ? alignmentBytes : overheadBytes; // what was freed before is taken again without a word to the system
    if (bytes < least * (1 - most) - slack) return [difference(device, 'total', least, bytes, source, 'are the model’s buffers')];
    const own = cpu ? bytes - fileBytes : bytes; // pages of a file may be those of weights that went to a GPU
    return (!cpu || used.length === 0) && own > all * (1 + most) + overheadBytes ? [difference(device, 'total', all, own, source, 'are the model’s buffers')] : [];
  });
}

const apart = (a: number, b: number, slack: number) => Math.abs(a - b) > Math.max(most * Math.max(a, b), slack);

function difference(device: string, part: Difference['part'], expectedBytes: number, actualBytes: number, source: Difference['source'], what: string): Difference {
  const seen = source === 'buffers' ? 'there are' : source === 'process' ? 'the process took' : `the system (${source}) counts`;
  const message = `${names[part]} on ${device}: ${bytesText(expectedBytes)} ${what}, ${seen} ${bytesText(actualBytes)} (${expectedBytes} and ${actualBytes} bytes)`;
  return { device, part, expectedBytes, actualBytes, source, message };
}
