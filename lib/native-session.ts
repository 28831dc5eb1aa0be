/**
 * Requests, events and counters of sessions, as the addon takes and gives them. Part of the contract in `native.ts`.
 */
import type { NativeFailure } from './native.js';

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
  /** Exactly one of `messages` (template applied), `text` (raw completion; BOS added as the vocabulary asks) and `tokens`. */
  readonly messages?: readonly NativeMessage[];
  readonly text?: string;
  readonly tokens?: Int32Array;
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
  /** Higher goes first. */
  readonly priority: number;
  /** Tokens that the context must have room for behind the prompt, or it is full. */
  readonly reserve: number;
  /** Cells behind a part that the prompt leaves out may be moved. */
  readonly shift: boolean;
}

export interface NativeUsage {
  readonly prompt: number;
  readonly cached: number;
  readonly generated: number;
  readonly reasoning: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
  readonly firstTokenMs: number;
  /** From being ready to run to the first step. */
  readonly queueMs: number;
  /** Prompt tokens whose cells were moved to other positions instead of prefilled. */
  readonly shifted: number;
  /** Times that the request gave its place to another while it ran. */
  readonly interrupted: number;
}

export interface NativeLogprob {
  readonly token: number;
  /** Text of the token; U+FFFD where its bytes are not UTF-8 by themselves. */
  readonly text: string;
  readonly logprob: number;
  readonly top: readonly { readonly token: number; readonly text: string; readonly logprob: number }[];
}

export type NativeEvent =
  | { readonly type: 'progress'; readonly done: number; readonly total: number; readonly cached: number; readonly remainingMs?: number }
  | { readonly type: 'text' | 'reasoning'; readonly text: string }
  | { readonly type: 'logprobs'; readonly logprobs: readonly NativeLogprob[] }
  | { readonly type: 'finish'; readonly reason: 'stop' | 'length' | 'aborted'; readonly usage: NativeUsage }
  | ({ readonly type: 'error'; readonly usage: NativeUsage } & NativeFailure);

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
  /** Requests so far, and times that one gave way to another while it ran. */
  readonly requests: number;
  readonly preemptions: number;
  /** All requests' time between being ready and their first step, together. */
  readonly queueMs: number;
  /** Tokens of the last step. */
  readonly lastBatch: number;
  readonly activeGenerations: number;
  /** Of those: not running now. */
  readonly queuedGenerations: number;
  readonly residentSessions: number;
}

/** One of the places where state is kept. */
interface NativeTier {
  readonly bytes: number;
  readonly entries: number;
  readonly budget: number;
}

export interface NativeCache {
  readonly cells: {
    readonly total: number;
    /** Each counted once, however many sessions hold it. */
    readonly used: number;
    /** Held by two sessions or more. */
    readonly shared: number;
    /** Held by nobody any more: kept as a prefix for others until the room is needed. */
    readonly retained: number;
    /** Of all layers, about. */
    readonly bytesEach: number;
  };
  /** Sequence ids of llama.cpp that sessions can be resident under. */
  readonly sequences: { readonly total: number; readonly used: number };
  readonly sessions: { readonly open: number; readonly resident: number; readonly pinned: number };
  /** State of sessions that gave up their cells. */
  readonly ram: NativeTier;
  /** Likewise, in files; `writing` bytes are on their way there. */
  readonly disk: NativeTier & { readonly writing: number; readonly errors: number };
  /** Of recurrent and windowed models: states at turn boundaries, to go back to. */
  readonly checkpoints: NativeTier;
  /** Requests that found cells or state of their prompt's beginning, and tokens that they found. */
  readonly hits: number;
  readonly hitTokens: number;
  /** Sessions that gave up their cells, and pieces of state that came back. */
  readonly evictions: number;
  readonly restores: number;
  readonly capturedBytes: number;
  readonly restoredBytes: number;
  /** State that no budget had room for: prefilled again when it is asked for. */
  readonly dropped: number;
  /** The tree of prefixes, parents before children: `tokens` cells from position `first` on, held by `references` sessions. */
  readonly prefixes: readonly { readonly first: number; readonly tokens: number; readonly references: number; readonly pinned: boolean }[];
}

/** A conversation's state. Memory is free when nobody refers to it any more, or by free(). */
export interface NativeSnapshot {
  readonly tokens: number;
  readonly bytes: number;
  /** What was given to capture(). */
  readonly conversation: string;
  /** By name: what state depends on. `model` is the fingerprint. */
  readonly settings: Readonly<Record<string, string>>;
  /** Rejects with ERR_IO. */
  save(path: string): Promise<void>;
  serialize(): Promise<Uint8Array>;
  free(): void;
}

/** `id` is for cancel(); 0: nothing was started, and the promise says why. */
export interface NativeWork<T> {
  readonly promise: Promise<T>;
  readonly id: number;
}

/** What a NativeModel does for sessions. */
export interface NativeSessions {
  stats(): NativeStats;
  cacheStats(): NativeCache;
  /** Gives up cells that are only retained. */
  trimCache(): Promise<void>;
  /** A new session id. Costs nothing until it generates. A pinned one keeps its cells. */
  openSession(pinned: boolean): number;
  /** A session that is what `parent` is now. Throws ERR_BUSY. */
  forkSession(parent: number): number;
  /** Frees the session's cells. Its running generation, if any, ends as aborted first. */
  closeSession(session: number): Promise<void>;
  /** Tokens of the session that are in the KV cache, or would be restored to it. */
  sessionTokens(session: number): number;
  /** `only`: these tokens instead of all that the session has. */
  capture(session: number, conversation: string, only: Int32Array | null): NativeWork<NativeSnapshot>;
  /** Rejects with ERR_STATE_MISMATCH or ERR_OUT_OF_MEMORY; the session is then what it was. */
  adopt(session: number, snapshot: NativeSnapshot): NativeWork<void>;

  /** Starts a generation on an idle session and returns its id. Events then wait in its ring until drained. */
  generate(session: number, request: NativeRequest): number;
  /** Takes what waits in the ring. After `finish` or `error` the id is gone and further calls return []. */
  drain(generation: number): NativeEvent[];
  cancel(generation: number): void;
}
