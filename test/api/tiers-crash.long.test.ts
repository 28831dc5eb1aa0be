import { test } from 'vitest';
import { killAndLook } from './kill-walk.js';

test('killed at 200 moments while sessions evict to disk', async () => {
  await killAndLook(200, 2);
}, 600_000);
