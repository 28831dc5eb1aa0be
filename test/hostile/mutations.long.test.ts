// Two thousand mutations of each model of the family and of each architecture, with the address sanitizer where that was built.
import { existsSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { architectures, family, mutate, small } from './mutations.js';

const programs = ['.build/cmake/bin/hostile_files_test', '.build/asan/bin/hostile_files_test'].filter(existsSync);

describe.each(programs)('%s', (program) => {
  test.each(family)('%s', { timeout: 7_200_000 }, (path) => {
    expect(mutate(path, 2000, 2, program)).toBe('');
  });
  test.each(architectures)('%s', { timeout: 7_200_000 }, async (architecture) => {
    expect(mutate(await small(architecture), 2000, 2, program)).toBe('');
  });
});
