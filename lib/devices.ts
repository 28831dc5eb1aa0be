/**
 * What a model can run on.
 */
import { addon } from './addon.js';
import { fromNative } from './errors.js';
import type { NativeDevice } from './native.js';

/** A compute device. */
export type Device = NativeDevice;

/** The devices here, the CPU first, with the reason for every backend that has none. */
export interface Devices extends ReadonlyArray<Device> {
  /** Backends without a device, and why: not compiled in, no loader, no driver, no usable GPU. */
  readonly unavailable: readonly { readonly backend: string; readonly reason: string }[];
}

/**
 * Lists the devices. Opens the GPU loaders, which {@link loadModel} with `devices: ['cpu']` never does.
 *
 * @example
 * ```ts
 * for (const device of await devices()) console.log(device.id, device.description, device.freeBytes);
 * ```
 */
export async function devices(): Promise<Devices> {
  try {
    const { devices: list, unavailable } = await addon().devices(true);
    return Object.freeze(Object.assign([...list], { unavailable }));
  } catch (failure) {
    throw fromNative(failure);
  }
}

/**
 * Where a model goes when nobody says: all of it on the first discrete GPU, else on the first integrated one, else on
 * the CPU. Never on several at once: a split is slower than the fastest device alone.
 *
 * @param setting - the environment's `TERNION_DEVICES`, a comma-separated list of ids that replaces this choice
 */
export function defaultDevices(list: readonly Pick<Device, 'id' | 'kind'>[], setting: string | undefined): string[] {
  const named = setting?.split(',').map((id) => id.trim()).filter((id) => id !== '');
  if (named !== undefined && named.length > 0) return named;
  const best = list.find((device) => device.kind === 'gpu') ?? list.find((device) => device.kind === 'igpu');
  return [best?.id ?? 'cpu'];
}
