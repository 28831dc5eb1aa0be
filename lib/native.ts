/**
 * The native addon as TypeScript sees it: the contract between `lib/` and `native/binding/`.
 *
 * Plain data in, plain data out. Nothing here validates or chooses: `lib/` has done so before it calls.
 * A call that can fail later rejects with a {@link NativeFailure}; a call with a wrong argument type throws a TypeError,
 * which means a bug in `lib/`. No function blocks the event loop for longer than copying its arguments takes.
 */
import type { NativeImportOptions, NativeImported, NativeQuantization, NativeQuantizeOptions, NativeSynthOptions } from './gguf/native.js';
import type { NativeMeasuring } from './native-measuring.js';

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
  readonly totalBytes: number;
  readonly freeBytes: number;
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
  /** Longest conversation in tokens, 0 = the model's training context. */
  readonly context: number;
  /** Sequences that can be decoded at once; the KV pool holds `context * sequences` cells. */
  readonly sequences: number;
  /** CPU threads, 0 = one per physical core. */
  readonly threads: number;
  readonly kvK: string;
  readonly kvV: string;
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
  readonly hasChatTemplate: boolean;
  readonly recurrent: boolean;
  readonly hybrid: boolean;
  /** Pooling the file asks for: `none`, `mean`, `cls`, `last`, `rank`; `unspecified` for plain decoders. */
  readonly pooling: string;
}

export interface NativePlacement {
  /** Bytes really allocated, by device, read from the loaded buffers. */
  readonly devices: readonly {
    readonly device: string;
    readonly weightBytes: number;
    readonly kvBytes: number;
    readonly computeBytes: number;
  }[];
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
  readonly kvTokens: number;
}

export interface NativeStats {
  /** Calls of `llama_decode`. */
  readonly steps: number;
  /** Steps whose batch held tokens of two or more sequences. */
  readonly sharedSteps: number;
  /** Most sequences in one step. */
  readonly maxSequencesInStep: number;
  readonly prefillTokens: number;
  readonly decodeTokens: number;
  /** Steps of single-thread fallback while the machine was busy (see docs/threads.md). */
  readonly narrowSteps: number;
  readonly wakes: number;
  readonly activeGenerations: number;
  readonly residentSequences: number;
}

export interface NativeSampling {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly typicalP: number;
  readonly topNSigma: number;
  readonly repeatPenalty: number;
  readonly frequencyPenalty: number;
  readonly presencePenalty: number;
  readonly penaltyLastN: number;
  readonly dryMultiplier: number;
  readonly dryBase: number;
  readonly dryAllowedLength: number;
  readonly dryPenaltyLastN: number;
  readonly drySequenceBreakers: readonly string[];
  readonly xtcProbability: number;
  readonly xtcThreshold: number;
  /** 0 = off, 1, 2. */
  readonly mirostat: number;
  readonly mirostatTau: number;
  readonly mirostatEta: number;
  readonly seed: number;
  /** Pairs: token ids, and biases of the same length. */
  readonly biasTokens: Int32Array;
  readonly biasValues: Float32Array;
  /** Names in order: penalties, dry, topNSigma, topK, typicalP, topP, minP, xtc, temperature. */
  readonly order: readonly string[];
  /** GBNF; empty = none. */
  readonly grammar: string;
}

export interface NativeMessage {
  readonly role: string;
  readonly content: string;
  readonly reasoning: string;
}

export interface NativeRequest {
  /** Exactly one of `messages` (template applied) and `text` (raw completion; BOS added as the vocabulary asks). */
  readonly messages?: readonly NativeMessage[];
  readonly text?: string;
  readonly sampling: NativeSampling;
  /** -1 = to the end of the context. */
  readonly maxTokens: number;
  readonly stop: readonly string[];
  readonly ignoreEos: boolean;
  /** Candidates to report per token, 0 = none. */
  readonly logprobs: number;
  /** Template's thinking switch. */
  readonly reasoning: boolean;
  /** Tokens allowed inside the reasoning block, -1 = unlimited. */
  readonly reasoningBudget: number;
}

export interface NativeUsage {
  readonly prompt: number;
  readonly cached: number;
  readonly generated: number;
  readonly reasoning: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
  readonly firstTokenMs: number;
}

export interface NativeLogprob {
  readonly token: number;
  /** Text of the token; U+FFFD where its bytes are not UTF-8 by themselves. */
  readonly text: string;
  readonly logprob: number;
  readonly top: readonly { readonly token: number; readonly text: string; readonly logprob: number }[];
}

export type NativeEvent =
  | { readonly type: 'progress'; readonly done: number; readonly total: number; readonly cached: number }
  | { readonly type: 'text' | 'reasoning'; readonly text: string }
  | { readonly type: 'logprobs'; readonly logprobs: readonly NativeLogprob[] }
  | { readonly type: 'finish'; readonly reason: 'stop' | 'length' | 'aborted'; readonly usage: NativeUsage }
  | ({ readonly type: 'error'; readonly usage: NativeUsage } & NativeFailure);

/** A running operation that can be cancelled; a cancelled one rejects with `ERR_ABORTED`. */
export interface NativeTask<T> {
  readonly promise: Promise<T>;
  cancel(): void;
}

export interface NativeModel {
  readonly info: NativeModelInfo;
  readonly placement: NativePlacement;
  stats(): NativeStats;
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

  /** A new session id. Costs nothing until it generates. */
  openSession(): number;
  /** Frees the session's cells. Its running generation, if any, ends as aborted first. */
  closeSession(session: number): Promise<void>;
  /** Tokens of the session that are in the KV cache, or would be restored to it. */
  sessionTokens(session: number): number;

  /** Starts a generation on an idle session and returns its id. Events then wait in its ring until drained. */
  generate(session: number, request: NativeRequest): number;
  /** Takes what waits in the ring. After `finish` or `error` the id is gone and further calls return []. */
  drain(generation: number): NativeEvent[];
  cancel(generation: number): void;
  /** Called on the JavaScript thread when any ring has something new; at most one call is outstanding. */
  onWake(callback: (() => void) | null): void;

  /** Stops everything, joins the engine's threads, frees context and weights. Idempotent. */
  dispose(): Promise<void>;
}

export interface Addon extends NativeMeasuring {
  /** Versions and build facts: ternion's engine, llama.cpp build, compiler, CPU features in use, backends compiled in. */
  buildInfo(): Readonly<Record<string, string | number | boolean | readonly string[]>>;
  /** `probeGpu` false never touches a GPU loader. */
  devices(probeGpu: boolean): Promise<NativeDevices>;
  load(options: NativeLoadOptions, onProgress: ((fraction: number) => void) | null): NativeTask<NativeModel>;
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
