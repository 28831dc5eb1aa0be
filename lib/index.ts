/** ternion: GGUF language models inside a Node or Electron process. */
export { buildInfo } from './addon.js';
export type { CacheOptions, CacheState } from './cache.js';
export { devices } from './devices.js';
export type { Device, Devices, DevicesOptions } from './devices.js';
export { TernionError, errorCodes, isTernionError } from './errors.js';
export type { ErrorCode, ErrorDetails } from './errors.js';
export type { ChatOptions, Chunk, GenerateOptions, Generation, Result, TokenLogprob, Usage } from './generation.js';
export type { Experts } from './experts.js';
export { inspect } from './inspect.js';
export type { Inspection } from './inspect.js';
export type { KvType } from './kv.js';
export { loadModel } from './load.js';
export type { LoadOptions } from './load.js';
export { onLog } from './log.js';
export type { LogEntry, LogLevel } from './log.js';
export type { Content, Message, TextPart } from './message.js';
export type {
  DetokenizeOptions, EmbedOptions, LogitsOptions, Model, ModelInfo, Placement, RenderOptions, Stats, TokenizeOptions,
} from './model.js';
export type { Full, OnFull } from './on-full.js';
export { clearPacks, listPacks, verifyPack } from './packs.js';
export type { Pack, PackCacheOptions, PackFolderOptions, PackVerification, VerifyPackOptions } from './packs.js';
export { plan } from './plan/index.js';
export type { PlanSet, PlanSetEntry } from './plan/set.js';
export type { Plan, Reason } from './plan/plan.js';
export type { PlannedMemory, Shortage } from './plan/memory.js';
export type { PlannedSpeed, SpeedAtDepth } from './plan/speed.js';
export type { BestFile, BestRequest, RankedFile } from './plan/best.js';
export type { ExpertSweep, SweepRow } from './plan/sweep.js';
export type { ContextRange, PlanRequest, PlanSettings, ReserveOptions } from './plan/request.js';
export type { Prime, PrimeOptions } from './prime.js';
export { samplingDefaults } from './sampling.js';
export type { Dry, Mirostat, SamplerName, Sampling, Xtc } from './sampling.js';
export type { Session, SessionOptions } from './session.js';
export { Snapshot } from './snapshot.js';
export type { SnapshotOptions } from './snapshot.js';
export type { CacheTrace, GenerateTrace, LoadTrace, PrefillTrace, StepTrace } from './trace.js';
