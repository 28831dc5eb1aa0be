/**
 * What a model can run on.
 */
import { addon } from './addon.js';
import { TernionError, fromNative } from './errors.js';
import { recall, remember } from './measured.js';
import type { NativeDevice } from './native.js';
import { bag, optional, orAgain, read, signal as signalType } from './options.js';
import { abortable } from './task.js';
import { check, refuse } from './validate.js';

/** A compute device. */
export interface Device extends NativeDevice {
  /**
   * Bytes per second that it reads from its memory: of the CPU with one thread per physical core, of a GPU while it multiplies F16
   * matrices with one vector. Known after it was measured once with this driver, see {@link DevicesOptions.measure}.
   */
  readonly readBytesPerSecond: number | undefined;
}

/** The devices here, the CPU first, with the reason for every backend that has none. */
export interface Devices extends ReadonlyArray<Device> {
  /** Backends without a device, and why: not compiled in, no loader, no driver, no usable GPU. */
  readonly unavailable: readonly { readonly backend: string; readonly reason: string }[];
}

/** Options of {@link devices}. */
export interface DevicesOptions {
  /**
   * Measure the read bandwidth of devices where it is not known; `'again'` of all. Takes up to a gibibyte of each device's memory for
   * about a second. What was measured is kept in the user's cache folder, by device and driver. Default false.
   */
  readonly measure?: boolean | 'again' | undefined;
  readonly signal?: AbortSignal | undefined;
}

const options = bag<DevicesOptions>({ measure: optional(orAgain), signal: optional(signalType) });

/**
 * Lists the devices. Opens the GPU loaders, which {@link loadModel} with `devices: ['cpu']` never does.
 *
 * @throws ERR_INVALID_ARG; rejects with ERR_ABORTED. A device that cannot be measured is listed without a figure.
 * @example
 * ```ts
 * for (const device of await devices()) console.log(device.id, device.description, device.freeBytes);
 * ```
 */
export function devices(request: DevicesOptions = {}): Promise<Devices> {
  return list(check('devices', 'options', options, request));
}

/**
 * Holds this process to so many bytes of a GPU's memory, all models together, whatever the card has: plans keep to it, and what would go
 * beyond is not allocated. Without `bytes` the limit is lifted. Vulkan alone; the memory of the CPU is limited by a control group.
 *
 * @throws ERR_INVALID_ARG at once, and for devices that cannot be limited; rejects with ERR_DEVICE_NOT_FOUND.
 */
export async function limitDevice(id: string, bytes?: number): Promise<void> {
  const device = read.text('limitDevice', 'id', id);
  if (bytes !== undefined && (!Number.isSafeInteger(bytes) || bytes < 0)) refuse('limitDevice', 'bytes', `bytes must be an integer of at least 0, or undefined for no limit; found ${String(bytes)}`);
  await addon().limitDevice(device, bytes ?? -1).catch((failure: unknown) => Promise.reject(fromNative(failure)));
}

async function list({ measure = false, signal }: DevicesOptions): Promise<Devices> {
  if (signal?.aborted) throw new TernionError('ERR_ABORTED', 'listing the devices was aborted', { cause: signal.reason });
  const { devices: found, unavailable } = await addon().devices(true).catch((failure: unknown) => Promise.reject(fromNative(failure)));
  const known: Device[] = [];
  for (const device of found) { // one after the other: they may share memory
    known.push(Object.freeze({ ...device, readBytesPerSecond: await bandwidth(device, measure, signal) }));
  }
  return Object.freeze(Object.assign(known, { unavailable }));
}

async function bandwidth(device: NativeDevice, measure: boolean | 'again', signal: AbortSignal | undefined): Promise<number | undefined> {
  const threads = addon().kernels().threads;
  const { backend, description, hardwareId, driver, driverVersion } = device;
  const key = { backend, description, hardwareId, driver, driverVersion, ...(device.id === 'cpu' && { threads }) };
  const old = measure === 'again' ? undefined : await recall('read', key);
  if (typeof old === 'number' || measure === false) return typeof old === 'number' ? old : undefined;
  try {
    const value = await abortable(signal, () => (device.id === 'cpu' ? addon().readBandwidth(threads, null) : addon().deviceBandwidth(device.id, null)));
    await remember('read', key, value);
    return value;
  } catch (failure) {
    if (failure instanceof TernionError && failure.code === 'ERR_ABORTED') throw failure;
    return undefined;
  }
}

/** What {@link DevicesOptions.measure} found for a device; undefined if it was not measured. */
export const knownBandwidth = (device: NativeDevice) => bandwidth(device, false, undefined);

/** Whether a GPU loader has to be opened to know where a model goes; `named` are the devices that were asked for. */
export function needsGpu(named: readonly string[] | undefined, setting: string | undefined): boolean {
  if (named === undefined && !setting) return true;
  return (named ?? defaultDevices([], setting)).some((id) => id !== 'cpu');
}

/** What a GPU may leave to the CPU when nobody says: nothing if it was named. */
export function defaultFallback(named: readonly string[] | undefined, setting: string | undefined): 'operations' | false {
  return named === undefined && !setting ? 'operations' : false;
}

/**
 * Where a model goes when nobody says: all of it on the first discrete GPU, else on the first integrated one, else on
 * the CPU. Never on several at once: a split is slower than the fastest device alone. Never on a GPU that the CPU plays.
 *
 * @param setting - the environment's `TERNION_DEVICES`, a comma-separated list of ids that replaces this choice
 */
export function defaultDevices(list: readonly Pick<NativeDevice, 'id' | 'kind' | 'software'>[], setting: string | undefined): string[] {
  const named = setting?.split(',').map((id) => id.trim()).filter((id) => id !== '');
  if (named !== undefined && named.length > 0) return named;
  const best = ['gpu', 'igpu'].flatMap((kind) => list.filter((device) => device.kind === kind && !device.software))[0];
  return [best?.id ?? 'cpu'];
}
