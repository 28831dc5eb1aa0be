// Of `npm run test:asan`: which tests run against the addon with AddressSanitizer, and how they end. Left out are those that measure time or
// memory, those of other programs, and those whose children are not ours.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: [
      'test/api/{determinism,embedded,fork,hazards,on-full,prefixes,residency,rewind,scheduling,session-hazards,snapshot-errors,snapshots,tiers-disk,ubatch,unload}.test.ts',
      'test/gguf/{bitnet,describe,import,import-hostile,quantize,refused-weights,synth,ternary-models}.test.ts',
      'test/hazard/{moments,threads}.test.ts',
      'test/hostile/paths.test.ts',
      'test/kernels/pack-cache.test.ts',
      'test/unit/*.test.ts',
    ],
    setupFiles: ['test/hazard/leak-check.ts'],
    pool: 'forks',
    maxWorkers: 1,
    env: { TERNION_PACK_CACHE: 'off' },
    testTimeout: 600_000,
    hookTimeout: 600_000,
  },
});
