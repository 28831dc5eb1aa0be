/**
 * What a placement takes of which memory, and whether it is there.
 */
import type { NativeDevice, NativePlacement } from '../native.js';

/** What a plan takes of one device. `bytes` is the sum of its parts. */
export interface PlannedMemory {
  readonly device: string;
  /** As {@link Device.description}, with the driver: a plan is of one machine. */
  readonly description: string;
  /** Whose memory it is: `cpu` for the CPU and for GPUs that share its memory, else the device itself. */
  readonly pool: string;
  readonly totalBytes: number;
  /** What could be had when the plan was made. */
  readonly freeBytes: number;
  /** Left free of it. */
  readonly reserveBytes: number;
  readonly weightBytes: number;
  readonly kvBytes: number;
  /** Of recurrent layers. */
  readonly stateBytes: number;
  readonly computeBytes: number;
  /** Slots for experts in recent use that lie in the CPU's memory. */
  readonly expertCacheBytes: number;
  /** For conversations without cells, and for checkpoints: budgets that fill up with use. */
  readonly cacheBytes: number;
  readonly bytes: number;
  /** Of these what is missing in the pool then: of a GPU that shares the CPU's memory what its own carved-out part has no room for. */
  readonly poolBytes: number;
}

/** Memory that is not there: of a device, or of the pool that several share. */
export interface Shortage {
  readonly device: string;
  readonly neededBytes: number;
  /** Free, less the reserve. */
  readonly availableBytes: number;
}

export interface Reserve {
  readonly hostBytes: number;
  readonly deviceBytes: number;
}

type Used = NativePlacement['devices'][number];

export const poolOf = (device: Pick<NativeDevice, 'id' | 'uma'>) => (device.uma ? 'cpu' : device.id);
export const describe = ({ description, driver, driverVersion }: NativeDevice) => [description, driver, driverVersion].filter((word) => word !== '').join(', ');

/** The placement by device, the CPU first. `cacheBytes` are the CPU's. */
export function plannedMemory(used: readonly Used[], known: readonly NativeDevice[], reserve: Reserve, cacheBytes: number): PlannedMemory[] {
  return known
    .filter((device) => device.id === 'cpu' || used.some((part) => part.device === device.id))
    .map((device) => {
      const { weightBytes = 0, kvBytes = 0, stateBytes = 0, computeBytes = 0, expertCacheBytes = 0 } = used.find((part) => part.device === device.id) ?? {};
      const cache = device.id === 'cpu' ? cacheBytes : 0;
      const bytes = weightBytes + kvBytes + stateBytes + computeBytes + expertCacheBytes + cache;
      return {
        device: device.id,
        description: describe(device),
        pool: poolOf(device),
        totalBytes: device.totalBytes,
        freeBytes: device.freeBytes,
        reserveBytes: device.id === 'cpu' ? reserve.hostBytes : reserve.deviceBytes,
        weightBytes, kvBytes, stateBytes, computeBytes, expertCacheBytes,
        cacheBytes: cache,
        bytes,
        poolBytes: device.uma ? Math.max(0, bytes - device.ownFreeBytes) : bytes,
      };
    });
}

/** What is missing. A GPU that shares the CPU's memory has a limit of its own, and its bytes count for the CPU's too. */
export function shortages(memory: readonly PlannedMemory[]): Shortage[] {
  return memory.flatMap((part) => {
    const neededBytes = takenOf(memory, part);
    const availableBytes = Math.max(0, part.freeBytes - part.reserveBytes);
    return neededBytes > availableBytes ? [{ device: part.device, neededBytes, availableBytes }] : [];
  });
}

/** What the plan takes of a device: of the CPU what the GPUs take that share its memory too. */
export function takenOf(memory: readonly PlannedMemory[], part: PlannedMemory): number {
  if (part.device !== part.pool) return part.bytes;
  return memory.filter(({ pool }) => pool === part.pool).reduce((sum, { poolBytes }) => sum + poolBytes, 0);
}

/** `cacheBytes` as far as there is room behind everything else: a budget may be smaller where nobody asked for it. */
export function roomForCache(memory: readonly PlannedMemory[], cacheBytes: number): number {
  const cpu = memory.find(({ device }) => device === 'cpu');
  if (cpu === undefined) return 0;
  return Math.max(0, Math.min(cacheBytes, cpu.freeBytes - cpu.reserveBytes - takenOf(memory, cpu)));
}
