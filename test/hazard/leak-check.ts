// After each file of tests under AddressSanitizer: nothing that the addon allocated is out of everybody's reach.
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { afterAll, expect } from 'vitest';

const { leaks } = createRequire(import.meta.url)(join(dirname(process.env['TERNION_ADDON'] ?? ''), 'leak-check.node')) as { leaks: () => boolean };

afterAll(() => {
  expect(leaks(), 'LeakSanitizer found what it wrote to stderr').toBe(false);
});
