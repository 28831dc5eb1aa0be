#!/usr/bin/env node
// npm run clean: removes what the scripts here have made. Downloads in the user's cache and node_modules stay.

import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { ROOT } from './run.mjs';

const made = ['.build', '.toolchain', 'build', 'dist', 'prebuilds'];
const sources = readdirSync(join(ROOT, 'vendor')).filter((name) => /^llama(\.local)?(\.(new|old)-.*)?$/.test(name));

for (const path of [...made, ...sources.map((name) => join('vendor', name))]) {
  rmSync(join(ROOT, path), { recursive: true, force: true });
}
