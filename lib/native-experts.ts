/**
 * What the addon says of a mixture's experts. Layout: native/engine/expert_cache.h.
 */
export interface NativeExpertStats {
  /** Each layer with routed experts. */
  readonly layers: readonly {
    readonly layer: number;
    readonly experts: number;
    /** That may be in device memory. */
    readonly slots: number;
    /** That were routed. */
    readonly tokens: number;
    /** Tokens by expert that chose it. */
    readonly counts: readonly number[];
    /** Experts in device memory now. */
    readonly cached: readonly number[];
    /** Products of a token and an expert, in steps that were divided between both: those on the device (hits), and on the CPU. */
    readonly deviceRows: number;
    readonly hostRows: number;
  }[];
  /** Of the slots, by device. */
  readonly deviceBytes: Readonly<Record<string, number>>;
  readonly uploads: number;
  readonly uploadedBytes: number;
  /** Products in steps that were not divided: batches that go to the device whole, and all before the first upload. */
  readonly undividedRows: number;
  /** Why there are no more uploads; empty while there are. */
  readonly error: string;
}
