import { test } from 'vitest';
import { expectNoGrowth } from './leaks.js';

test.each([
  ['load', 1000],
  ['load and use', 1000],
  ['load a mixture', 1000],
  ['load a hybrid', 1000],
  ['abort a load', 1000],
  ['generate', 10_000],
  ['sessions', 2000],
  ['abort', 2000],
])('%s: %i times, and memory is what it was', expectNoGrowth, 1_800_000);
