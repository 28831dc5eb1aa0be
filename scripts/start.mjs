#!/usr/bin/env node
// npm start: sets up what is missing or stale, then generates. Arguments are those of `ternion generate`.

import { join } from 'node:path';

import { ROOT, main, runForeground } from './run.mjs';
import { setUp } from './setup.mjs';

await main(async (args) => {
  await setUp();
  return runForeground(process.execPath, [join(ROOT, 'dist', 'cli', 'main.js'), 'generate', ...args]);
});
