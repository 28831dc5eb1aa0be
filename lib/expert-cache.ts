/**
 * What became of a mixture's experts: who was chosen, and where the products were computed.
 */
import type { NativeExpertStats } from './native-experts.js';

/** A layer with routed experts. */
export type ExpertLayer = NativeExpertStats['layers'][number];

/** Counters since the model was loaded. */
export interface ExpertState extends Omit<NativeExpertStats, 'error'> {
  /** Of the products in steps that were divided between CPU and device, the share that the device had the experts for; undefined before there were any. */
  readonly hitRate: number | undefined;
  /** Why there are no more uploads; undefined while there are. */
  readonly error: string | undefined;
}

export function expertState(stats: NativeExpertStats | undefined): ExpertState | undefined {
  if (stats === undefined) return undefined;
  const sum = (rows: (layer: ExpertLayer) => number) => stats.layers.reduce((all, layer) => all + rows(layer), 0);
  const [hits, misses] = [sum(({ deviceRows }) => deviceRows), sum(({ hostRows }) => hostRows)];
  return { ...stats, hitRate: hits + misses > 0 ? hits / (hits + misses) : undefined, error: stats.error === '' ? undefined : stats.error };
}
