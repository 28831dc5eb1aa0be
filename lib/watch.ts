/**
 * Diagnostics channels of the engine: what changed since somebody was told last.
 */
import type { NativeSessions } from './native-session.js';
import { trace, traced } from './trace.js';

const cacheCounters = ['evictions', 'restores', 'hits', 'dropped'] as const;
type CacheCounts = Record<(typeof cacheCounters)[number], number>;

/** @internal One per model; looks whenever the engine has something new, and only while somebody listens. */
export class Watch {
  #cache: CacheCounts = { evictions: 0, restores: 0, hits: 0, dropped: 0 };
  #steps = 0;
  #preemptions = 0;

  look(native: Pick<NativeSessions, 'cacheStats' | 'stats'>): void {
    if (traced('cache')) {
      const now = native.cacheStats();
      const since = Object.fromEntries(cacheCounters.map((name) => [name, now[name] - this.#cache[name]])) as CacheCounts;
      if (cacheCounters.some((name) => since[name] > 0)) {
        trace('cache', () => ({ ...since, usedCells: now.cells.used, ramBytes: now.ram.bytes, diskBytes: now.disk.bytes }));
      }
      this.#cache = { evictions: now.evictions, restores: now.restores, hits: now.hits, dropped: now.dropped };
    }
    if (traced('step')) {
      const now = native.stats();
      trace('step', () => ({
        steps: now.steps - this.#steps,
        lastBatch: now.lastBatch,
        running: now.activeGenerations - now.queuedGenerations,
        queued: now.queuedGenerations,
        preemptions: now.preemptions - this.#preemptions,
      }));
      this.#steps = now.steps;
      this.#preemptions = now.preemptions;
    }
  }
}
