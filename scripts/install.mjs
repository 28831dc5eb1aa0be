#!/usr/bin/env node
// npm's install script. Where an addon loads that is there already, nothing is left to do; else, or when asked for with
// --build-from-source, it is built for this machine, by node-gyp as npm's configuration has it.

import { spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import { ROOT, WORK } from './run.mjs';

const CLI = join(ROOT, 'dist', 'cli', 'main.js');
const checkout = existsSync(join(ROOT, 'lib', 'addon.ts'));
const asked = ['true', 'ternion'].includes(process.env.npm_config_build_from_source);

process.exitCode = !asked && loads() ? 0 : build();

// In a process of its own: an addon that ends it is one that does not load. Why it is built is told before.
function loads() {
  if (!existsSync(CLI)) return false;
  const doctor = spawnSync(process.execPath, [CLI, 'doctor'], { cwd: ROOT, encoding: 'utf8' });
  if (doctor.status !== 0) process.stderr.write(`${doctor.stdout}\nternion is built from source now.\n`);
  return doctor.status === 0;
}

function build() {
  const program = createRequire(import.meta.url).resolve('node-gyp-build/bin.js');
  const env = { ...process.env, npm_config_build_from_source: 'true' };
  const code = spawnSync(process.execPath, [program], { cwd: ROOT, env, stdio: 'inherit' }).status ?? 1;
  // Half a gigabyte of objects is of use to who goes on to change the source, and to nobody else.
  if (code === 0 && !checkout) rmSync(WORK, { recursive: true, force: true });
  return code;
}
