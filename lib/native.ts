/**
 * The native addon as TypeScript sees it: the contract between `lib/` and `native/binding/`.
 *
 * Plain data in, plain data out. Nothing here validates or chooses: `lib/` has done so before it calls.
 * A call that can fail later rejects with a {@link NativeFailure}; a call with a wrong argument type throws a TypeError,
 * which means a bug in `lib/`. No function blocks the event loop for longer than copying its arguments takes.
 */
import type { NativeImportOptions, NativeImported, NativeQuantization, NativeQuantizeOptions, NativeSynthOptions } from './gguf/native.js';
import type { NativeExpertStats } from './native-experts.js';
import type { NativeMeasuring } from './native-measuring.js';
import type { NativeMessage, NativeSessions, NativeSnapshot } from './native-session.js';

/** What a rejected native promise, or an `error` event, carries. `code` is one of `errors.ts`. */
export interface NativeFailure {
  readonly code: string;
  readonly message: string;
  readonly details: Readonly<Record<string, string | number | boolean>>;
}

export interface NativeDevice {
  /** `cpu`, `vulkan0`, `hip0` …: stable within a process. */
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly backend: string;
  readonly kind: 'cpu' | 'gpu' | 'igpu';
  /** Where it is plugged in, `0000:01:00.0`; empty where there is no PCI device. */
  readonly pciId: string;
  /** PCI vendor and device, `1002:13fe`; empty where nobody says. */
  readonly hardwareId: string;
  readonly driver: string;
  readonly driverVersion: string;
  /** `x86_64`, `gfx1013` …; empty where nobody says. */
  readonly architecture: string;
  /** A GPU whose memory is the CPU's: its bytes are the CPU's bytes, not bytes beside them. */
  readonly uma: boolean;
  /** A GPU that the CPU plays (lavapipe). */
  readonly software: boolean;
  /** Of the device's own memory; of the CPU and of UMA devices what the machine has and control groups allow. */
  readonly totalBytes: number;
  /** What can be had now: of the CPU without swapping, clean file pages included. */
  readonly freeBytes: number;
  /** Of a UMA GPU: what is free of memory that the firmware carved out for it, and that the CPU does not have. */
  readonly ownFreeBytes: number;
  /** The largest single buffer. */
  readonly largestAllocationBytes: number;
  /** Of a device that this process was held to less of ({@link limitDevice}): all that ternion has there now, and had at most since. */
  readonly limited?: { readonly limitBytes: number; readonly allocatedBytes: number; readonly peakBytes: number };
  /** What changes speed. A GPU: `fp16`, `bf16`, `int8-dot` (in one instruction), `matrix-cores`, `memory-budget`. The CPU: its instruction sets, `avx512-vnni` … */
  readonly capabilities: readonly string[];
}

export interface NativeDevices {
  readonly devices: readonly NativeDevice[];
  /** Backends that are compiled in, or could be, but offer no device here; with the reason in words. */
  readonly unavailable: readonly { readonly backend: string; readonly reason: string }[];
}

export interface NativeLoadOptions {
  readonly path: string;
  /** Device ids; empty = CPU only. The CPU is always present as the last resort of tensors that no layer owns. */
  readonly devices: readonly string[];
  /** Layers on the devices, -1 = all (output layer included). */
  readonly gpuLayers: number;
  /** Weights that go elsewhere than their layer: the first pattern that is found in a tensor's name decides. Beside a GPU only. */
  readonly overrides: readonly { readonly pattern: string; readonly device: string; readonly required: boolean }[]; // required: found in some name
  /** Longest conversation in tokens, 0 = the model's training context. */
  readonly context: number;
  /** Sequences that can be decoded at once. */
  readonly sequences: number;
  /** Cells of the KV pool; 0 = `context * sequences`. */
  readonly kvTokens: number;
  /** Sequence ids beside, for sessions that wait; -1 = as many as cost nothing, else one per sequence. */
  readonly spareSequences: number;
  /** Budgets for state of sessions without cells, and for checkpoints. */
  readonly ramBytes: number;
  readonly diskBytes: number;
  readonly diskFolder: string;
  readonly checkpointBytes: number;
  /** Of device memory, for experts that lie in the CPU's; 0 = none. */
  readonly expertCacheBytes: number;
  /** Count who is routed where, also without a cache. */
  readonly countExperts: boolean;
  /** CPU threads, 0 = one per physical core. */
  readonly threads: number;
  /** Tokens of one step, 0 = 512. */
  readonly ubatch: number;
  readonly flashAttention: 'auto' | 'yes' | 'no';
  readonly kvK: string;
  readonly kvV: string;
  /** What a device does not compute with or refuses is the CPU's, instead of an error. */
  readonly allowRefusedWeights: boolean;
  readonly allowRefusedOperations: boolean;
  /** That the file has to have; empty = any. */
  readonly fingerprint: string;
  readonly mmap: boolean;
  readonly kernels: string; // of the CPU, by name; empty = the fastest
  readonly packFolder: string; // of packed weights; empty = they are not kept
  readonly packBytes: number;
  readonly packVerify: boolean; // read all of a pack before it is used
}

export interface NativeModelInfo {
  readonly name: string;
  readonly architecture: string;
  /** The GGUF's file type in words, e.g. `TQ2_0 - 2.06 bpw ternary`. */
  readonly quantization: string;
  readonly parameters: number;
  readonly fileBytes: number;
  readonly trainedContext: number;
  readonly vocabulary: number;
  readonly embeddingSize: number;
  readonly layers: number;
  /** Routed experts of a layer; 0 where there are none. */
  readonly experts: number;
  readonly hasChatTemplate: boolean;
  readonly recurrent: boolean;
  readonly hybrid: boolean;
  /** Pooling the file asks for: `none`, `mean`, `cls`, `last`, `rank`; `unspecified` for plain decoders. */
  readonly pooling: string;
}

/** What a weight is for, by its name in the GGUF. */
export type WeightRole = 'embedding' | 'attention' | 'recurrent' | 'router' | 'experts' | 'shared-experts' | 'ffn' | 'output' | 'other';

export interface NativePlacement {
  /** Bytes in use, by device, the CPU first: of weights those of the tensors, read from their buffers (a mapped file may keep more pages in memory). */
  readonly devices: readonly {
    readonly device: string;
    readonly weightBytes: number;
    readonly kvBytes: number;
    /** Of recurrent layers. */
    readonly stateBytes: number;
    readonly computeBytes: number;
    /** Slots for experts in recent use that lie in the CPU's memory. */
    readonly expertCacheBytes: number;
  }[];
  /** The weights' bytes as they are held, by device, role and layer; `layer` is -1 for those of no layer. */
  readonly weights: readonly { readonly device: string; readonly role: WeightRole; readonly layer: number; readonly tensors: number; readonly bytes: number }[];
  /** What a GPU was to compute and refuses, so that the CPU does; experts that were put there are not of it, nor is the lookup of embeddings. */
  readonly refused: readonly {
    /** ggml's name, `MUL_MAT` …, with the types that it has and makes. */
    readonly operation: string;
    readonly types: string;
    readonly device: string;
    /** The layer of the first of them, counting the output as one behind the last, and its weight, if it is one that the GPU does not compute with. */
    readonly layer: number;
    readonly weight: string;
    /** In one graph. */
    readonly count: number;
  }[];
  /**
   * What the system says that loading took, where it can be told: not while other models were loaded or freed. `process`: the CPU's, of the
   * process, with `fileBytes` in pages of mapped files; `fdinfo`: of a GPU, by this process; `sysfs`: of a GPU, by all programs.
   */
  readonly taken: readonly NativeHeld[];
  readonly gpuLayers: number;
  readonly layers: number;
  readonly threads: number;
  /** CPU kernels in use: `upstream`, the name of ours if weights are packed for them, or `float32`, the reference. */
  readonly kernels: string;
  /** Of those: in which way the weights of each type are held and multiplied, the fastest here as was tried, or the one named. */
  readonly packed: readonly { readonly type: string; readonly way: string; readonly tensors: number; readonly bytes: number }[];
  /** Of weights that are packed for kernels of ours; they came from the pack cache, or were packed by this load. */
  readonly packedBytes: number;
  readonly packsFromCache: boolean;
  readonly context: number;
  readonly sequences: number;
  /** Cells of the KV pool. */
  readonly kvTokens: number;
  /** Sessions that can be resident at once: `sequences` and the spare ones. */
  readonly sequenceIds: number;
  /** Tokens of one physical batch. */
  readonly ubatch: number;
  /** Attention is one operation. */
  readonly flashAttention: boolean;
  /** The model goes back to checkpoints: it has recurrent layers, or ones that see a window. */
  readonly checkpoints: boolean;
}

export interface NativeHeld {
  readonly device: string;
  readonly source: 'process' | 'fdinfo' | 'sysfs';
  readonly bytes: number;
  readonly fileBytes: number;
}

export interface NativeDryRun {
  readonly info: NativeModelInfo;
  readonly placement: NativePlacement;
}

/** A running operation that can be cancelled; a cancelled one rejects with `ERR_ABORTED`. */
export interface NativeTask<T> {
  readonly promise: Promise<T>;
  cancel(): void;
}

export interface NativeModel extends NativeSessions {
  readonly info: NativeModelInfo;
  readonly placement: NativePlacement;
  /** Nothing if experts are neither cached nor counted. */
  expertStats(): NativeExpertStats | undefined;
  /** Of the file, 32 hexadecimal digits. */
  readonly fingerprint: string;
  tokenize(text: string, addSpecial: boolean, parseSpecial: boolean): Promise<Int32Array>;
  /** `special`: whether control tokens are rendered as text. */
  detokenize(tokens: Int32Array, special: boolean): Promise<string>;
  /** Renders messages with the model's template, generation prompt included. */
  render(messages: readonly NativeMessage[], reasoning: boolean): Promise<string>;
  embed(texts: readonly string[], normalize: boolean): NativeTask<Float32Array[]>;
  /** Teacher-forced logits of every position of `tokens`: `tokens.length * vocabulary` floats, row by row. */
  logits(tokens: Int32Array): NativeTask<Float32Array>;
  /** Log probability of each token but the first, after those before it. */
  score(tokens: Int32Array): NativeTask<Float32Array>;

  /** Called on the JavaScript thread when any ring has something new; at most one call is outstanding. */
  onWake(callback: (() => void) | null): void;

  /** Stops everything, joins the engine's threads, frees context and weights. Idempotent. */
  dispose(): Promise<void>;
}

export interface Addon extends NativeMeasuring {
  /** Versions and build facts: ternion's engine, llama.cpp build, compiler, CPU features in use, backends compiled in. */
  buildInfo(): Readonly<Record<string, string | number | boolean | readonly string[]>>;
  /** `probeGpu` false never touches a GPU loader. */
  /** Holds the process to so many bytes of the device's memory; negative lifts that. */
  limitDevice(id: string, bytes: number): Promise<void>;
  devices(probeGpu: boolean): Promise<NativeDevices>;
  load(options: NativeLoadOptions, onProgress: ((fraction: number) => void) | null): NativeTask<NativeModel>;
  /** What {@link load} would take, laid out by llama.cpp itself without taking it. Rejects as load does, out of memory excepted. */
  dryRun(options: NativeLoadOptions, onProgress: null): NativeTask<NativeDryRun>;
  /** What this process holds now of the CPU's memory and of these GPUs, where the system tells. */
  heldMemory(devices: readonly string[]): Promise<readonly NativeHeld[]>;
  /** 32 hexadecimal digits of a model's header, sizes and samples of its weights: which model it is. Rejects with ERR_MODEL_NOT_FOUND or ERR_MODEL_INVALID. */
  fingerprint(path: string): Promise<string>;
  /** Reads a GGUF header: metadata and tensor table, never weights. Rejects with ERR_MODEL_INVALID. */
  inspect(path: string): Promise<NativeInspection>;
  /** Minimum level 0 debug … 3 error, 4 nothing. Lines arrive on the JavaScript thread, coalesced. */
  onLog(level: number, callback: ((level: number, line: string) => void) | null): void;
  /** Writes a GGUF of random weights; resolves to its size in bytes. */
  synthesize(options: NativeSynthOptions, onProgress: ((fraction: number) => void) | null): NativeTask<number>;
  /** Writes another program's ternary model as a GGUF that llama.cpp reads. */
  importModel(options: NativeImportOptions, onProgress: ((fraction: number) => void) | null): NativeTask<NativeImported>;
  /** Quantises a model. Rejects with ERR_INVALID_ARG, ERR_MODEL_UNSUPPORTED (not ternary, rounded before), ERR_MODEL_NOT_FOUND, ERR_MODEL_INVALID, ERR_IO or ERR_ABORTED. */
  quantize(options: NativeQuantizeOptions, onProgress: ((fraction: number) => void) | null): NativeTask<NativeQuantization>;
  /** Reads every weight. Rejects with ERR_MODEL_NOT_FOUND, ERR_MODEL_INVALID or ERR_ABORTED. */
  verify(path: string, onProgress: ((fraction: number) => void) | null): NativeTask<readonly NativeTensorHealth[]>;
  /** Reads all of a pack; `problem` is empty for a whole one. Rejects with ERR_IO or ERR_ABORTED. */
  verifyPack(path: string, onProgress: ((fraction: number) => void) | null): NativeTask<{ readonly state: 'whole' | 'stale' | 'damaged'; readonly problem: string }>;
  /** Reads and verifies a snapshot. Rejects with ERR_IO, ERR_STATE_CORRUPT or ERR_STATE_MISMATCH (of the format). */
  loadSnapshot(path: string): Promise<NativeSnapshot>;
  decodeSnapshot(bytes: Uint8Array): Promise<NativeSnapshot>;
  /** Bytes that garbage collection was told of by everybody in this thread. */
  readonly reportedMemory: () => number;
  /** Stops and joins every native thread of this environment; promises that were pending stay so. The last call. */
  stop(): void;
}

export interface NativeTensorHealth {
  readonly name: string;
  readonly type: string;
  /** Of a floating type: weights. */
  readonly blocks: number;
  /** Blocks whose scale, or weights that, are NaN or infinite. */
  readonly notFinite: number;
  /** Blocks that are zero because their scale is. */
  readonly zeroScales: number;
  /** False for a type whose blocks are not known here. */
  readonly checked: boolean;
}

export interface NativeInspection {
  readonly version: number;
  readonly alignment: number;
  readonly dataOffset: number;
  readonly fileBytes: number;
  /** Values of arrays of texts longer than 64, and of numbers longer than 1024, are cut to 64; `length` has the true one. 64-bit integers outside the safe range are bigint. */
  readonly metadata: readonly {
    readonly key: string;
    readonly type: string;
    readonly value: unknown;
    readonly length?: number;
  }[];
  readonly tensors: readonly {
    readonly name: string;
    readonly type: string;
    readonly shape: readonly number[];
    readonly bytes: number;
    readonly offset: number;
  }[];
}
