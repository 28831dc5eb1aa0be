// Leaks of 20 KB a time. Smaller ones: leaks.long.test.ts.
import { test } from 'vitest';
import { expectNoGrowth } from './leaks.js';

test.each([['load and use', 100], ['abort a load', 100], ['sessions', 100], ['abort', 100]])('%s: %i times, and memory is what it was', expectNoGrowth, 120_000);
