import { defineConfig } from 'vitest/config';

const long = process.env['TERNION_LONG'] === '1';

// What their long forms do in full.
const shortForms = ['test/hazard/leaks.test.ts', 'test/hazard/moments.test.ts', 'test/hostile/mutations.test.ts'];

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: long ? shortForms : ['test/**/*.long.test.ts'],
    // Processes, because native state and process.exit are part of what is tested. One at a time: the tests share the
    // machine's few cores, and decoding beside another decode would time out rather than fail.
    pool: 'forks',
    maxWorkers: 1,
    env: { TERNION_PACK_CACHE: 'off' }, // tests leave nothing in the user's folders; those of the cache have their own
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
