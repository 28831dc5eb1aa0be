/**
 * Whether a model is in memory: given back when nobody needs it, loaded again when somebody does.
 */
import { addon } from './addon.js';
import { TernionError, fromNative } from './errors.js';
import { warn } from './log.js';
import type { NativeHeld, NativeModel, NativePlacement, NativeTask } from './native.js';

/** What {@link Model.unload} gave back. */
export interface Unloaded {
  /** Until the memory was back. */
  readonly ms: number;
  /** What loading again is expected to take: what it took last time. */
  readonly expectedLoadMs: number;
  readonly devices: readonly {
    readonly device: string;
    /** Of its buffers; compute buffers of the CPU may never have been written, and taken. */
    readonly bytes: number;
    /** What the system says came back, and who says so, as in {@link Placement.taken}; `driver`: the GPU's free memory. Absent where nobody can tell. */
    readonly returnedBytes?: number;
    readonly source?: NativeHeld['source'] | 'driver';
  }[];
}

/** @internal What the model does when its native part comes and goes. */
export interface Tenant {
  /** Loads again; a file that is another model by now is refused. */
  readonly load: () => Promise<NativeTask<NativeModel>>;
  readonly arrived: (native: NativeModel, ms: number) => void;
  /** Takes along what is to outlive the native model. Nothing runs on it meanwhile. */
  readonly leaving: (native: NativeModel) => Promise<void>;
  readonly left: (unloaded: Unloaded) => void;
  /** Disposes of it. */
  readonly end: (native: NativeModel) => Promise<void>;
}

const patienceMs = 5000;
const enough = 0.97;
const retryMs = 1000; // until an idle model is unloaded again, at least, where that failed

/** @internal One per model. Who needs the native model holds a use of it: it stays while there is one. */
export class Residence {
  readonly #tenant: Tenant;
  readonly #keepAlive: number | undefined;
  #native: NativeModel | undefined;
  #loadMs: number;
  #loading: { readonly promise: Promise<NativeModel>; cancel: () => void } | undefined;
  #unloading: Promise<Unloaded> | undefined;
  #disposed: Promise<void> | undefined;
  #uses = 0;
  #timer: NodeJS.Timeout | undefined;

  /** `keepAlive`, in ms: how long it stays when nobody needs it; undefined: for ever. */
  constructor(native: NativeModel, loadMs: number, keepAlive: number | undefined, tenant: Tenant) {
    this.#native = native;
    this.#loadMs = loadMs;
    this.#keepAlive = keepAlive;
    this.#tenant = tenant;
    this.#idle();
  }

  /** What is in memory, and is not about to go. */
  get here(): NativeModel | undefined {
    return this.#unloading === undefined ? this.#native : undefined;
  }

  /** While a use lasts and after {@link Residence.ready}. */
  get native(): NativeModel {
    if (this.#native === undefined) throw new TernionError('ERR_INTERNAL', 'the model was used while it was not in memory');
    return this.#native;
  }

  get expectedLoadMs(): number {
    return this.#loadMs;
  }

  /** Throws ERR_DISPOSED once the model is. */
  check(): void {
    if (this.#disposed !== undefined) throw new TernionError('ERR_DISPOSED', 'the model was disposed');
  }

  /** The model stays until what this returns is called. */
  use(): () => void {
    this.check();
    clearTimeout(this.#timer);
    this.#uses++;
    let used = true;
    return () => {
      if (!used) return;
      used = false;
      this.#uses--;
      this.#idle();
    };
  }

  /** During a use: the native model, loaded again if it was not in memory. */
  async ready(): Promise<NativeModel> {
    await this.#unloading?.catch(() => {});
    this.check();
    if (this.#native !== undefined) return this.#native;
    this.#loading ??= this.#load();
    return this.#loading.promise;
  }

  /** All of it as one use. */
  async run<T>(signal: AbortSignal | undefined, work: (native: NativeModel) => Promise<T>): Promise<T> {
    const release = this.use();
    try {
      return await work(this.here ?? (await unlessAborted(signal, this.ready())));
    } catch (failure) {
      throw fromNative(failure, signal?.aborted ? { cause: signal.reason } : {});
    } finally {
      release();
    }
  }

  /** @throws ERR_DISPOSED, ERR_BUSY at once. */
  unload(): Promise<Unloaded> {
    this.check();
    if (this.#unloading !== undefined) return this.#unloading;
    if (this.#uses > 0 || this.#loading !== undefined) {
      throw new TernionError('ERR_BUSY', `model.unload: requests run or wait (${this.#uses}); await or cancel them first`);
    }
    const native = this.#native;
    if (native === undefined) return Promise.resolve({ ms: 0, expectedLoadMs: this.#loadMs, devices: [] });
    clearTimeout(this.#timer);
    this.#unloading = this.#unload(native).finally(() => {
      this.#unloading = undefined;
      this.#idle(retryMs); // it is here still if that failed; else no time counts any more
    });
    return this.#unloading;
  }

  dispose(): Promise<void> {
    this.#disposed ??= this.#dispose();
    return this.#disposed;
  }

  async #dispose(): Promise<void> {
    clearTimeout(this.#timer);
    this.#loading?.cancel();
    await Promise.allSettled([this.#loading?.promise, this.#unloading]);
    const native = this.#native;
    if (native !== undefined) await this.#tenant.end(native);
  }

  /** Counts `keepAlive` anew if nobody needs the model; `least` ms at least. */
  #idle(least = 0): void {
    clearTimeout(this.#timer);
    if (this.#keepAlive === undefined || this.#uses > 0 || this.#native === undefined || this.#disposed !== undefined) return;
    this.#timer = setTimeout(() => {
      if (this.#uses === 0 && this.#disposed === undefined) this.unload().catch((failure: unknown) => warn(`unloading an idle model failed: ${fromNative(failure).message}`));
    }, Math.max(least, this.#keepAlive)).unref(); // a model that waits to be unloaded keeps no process alive
  }

  #load(): { readonly promise: Promise<NativeModel>; cancel: () => void } {
    let cancelled = false;
    let task: NativeTask<NativeModel> | undefined;
    const load = async () => {
      const started = performance.now();
      try {
        task = await this.#tenant.load();
        if (cancelled) task.cancel();
        const native = await task.promise;
        this.#native = native;
        this.#loadMs = performance.now() - started;
        if (!cancelled) this.#tenant.arrived(native, this.#loadMs);
        return native;
      } catch (failure) {
        if (cancelled) throw new TernionError('ERR_ABORTED', 'the model was disposed while it was loaded again', { cause: failure });
        throw fromNative(failure);
      } finally {
        this.#loading = undefined;
        this.#idle(); // those who asked for it may have given up
      }
    };
    const promise = load();
    promise.catch(() => {}); // told to those who wait for it
    return { promise, cancel: () => { cancelled = true; task?.cancel(); } };
  }

  async #unload(native: NativeModel): Promise<Unloaded> {
    const started = performance.now();
    const { devices } = native.placement;
    await this.#tenant.leaving(native);
    const before = await held(devices);
    await this.#tenant.end(native);
    this.#native = undefined;
    const returned = await givenBack(devices, before);
    const unloaded = { ms: performance.now() - started, expectedLoadMs: this.#loadMs, devices: returned };
    this.#tenant.left(unloaded);
    return unloaded;
  }
}

type Places = NativePlacement['devices'];
interface Held {
  readonly source: NativeHeld['source'] | 'driver';
  /** Of what is held, or, of a driver, less than nothing: what is free. */
  readonly bytes: number;
}

/** By device what the process holds; where only the driver tells something, what is not free. A GPU that the CPU plays is not asked. */
async function held(places: Places): Promise<ReadonlyMap<string, Held>> {
  const ids = places.map(({ device }) => device);
  const gpus = ids.filter((id) => id !== 'cpu');
  const known = new Map<string, Held>();
  try {
    if (gpus.length > 0) {
      const { devices } = await addon().devices(true);
      for (const { id, freeBytes, software, uma } of devices) if (gpus.includes(id) && !software && !uma) known.set(id, { source: 'driver', bytes: -freeBytes });
    }
    for (const { device, source, bytes } of await addon().heldMemory(gpus)) if (ids.includes(device)) known.set(device, { source, bytes });
  } catch {
    // a device that was lost tells nothing
  }
  return known;
}

/** Waits until what was in the buffers is back, or for as long as that is worth. */
async function givenBack(places: Places, before: ReadonlyMap<string, Held>): Promise<Unloaded['devices']> {
  const until = performance.now() + patienceMs;
  for (;;) {
    const now = await held(places);
    const result = places.map(({ device, weightBytes, kvBytes, stateBytes, computeBytes, expertCacheBytes }) => {
      const [then, left] = [before.get(device), now.get(device)];
      const bytes = weightBytes + kvBytes + stateBytes + computeBytes + expertCacheBytes;
      return then === undefined || left?.source !== then.source ? { device, bytes } : { device, bytes, returnedBytes: Math.max(0, then.bytes - left.bytes), source: then.source };
    });
    // What the CPU has to give back nobody knows to the byte; its allocator has been told to keep nothing.
    const late = result.filter(({ device, bytes, returnedBytes }) => device !== 'cpu' && returnedBytes !== undefined && returnedBytes < enough * bytes);
    if (late.length === 0) return result;
    if (performance.now() > until) {
      for (const { device, bytes, returnedBytes } of late) warn(`model.unload: of ${bytes} bytes on ${device} the system has ${returnedBytes} back after ${patienceMs} ms`);
      return result;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** @internal What `promise` gives, unless the signal is faster. */
export async function unlessAborted<T>(signal: AbortSignal | undefined, promise: Promise<T>): Promise<T> {
  if (signal === undefined) return promise;
  let abort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(new TernionError('ERR_ABORTED', 'the operation was aborted', { cause: signal.reason }));
  });
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
