import { test } from 'vitest';
import { killAndLook } from './kill-walk.js';

test('killed at 25 moments while sessions evict to disk: what is there is whole, and the next process goes on from it', async () => {
  await killAndLook(25, 1);
}, 120_000);
