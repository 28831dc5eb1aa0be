// A hundred files of each architecture that are no models any more; those of the family are tried by the C++ test itself.
import { expect, test } from 'vitest';
import { architectures, mutate, small } from './mutations.js';

test.each(architectures)('%s', { timeout: 300_000 }, async (architecture) => {
  expect(await mutate(await small(architecture), 100, 1)).toBe('');
});
