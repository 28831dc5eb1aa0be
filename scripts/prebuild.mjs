#!/usr/bin/env node
// npm run prebuilds: the addons that the package carries, as prebuilds/<platform>-<arch>/ternion.<variant>.node.
//
//   --arch arm64       cross-compiled, with Debian's compiler
//   --variant NAME     one alone: baseline, avx512 (x64), dotprod (arm64)
//
// Every variant of a platform is built in one folder, .build/prebuild-<platform>-<arch>: they differ in ggml-cpu alone, so the
// second takes a compiled ggml-cpu and a link. prebuildify, which runs node-gyp once for each runtime version, has no word for that.

import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { isFresh, writeStamp } from './freshness.mjs';
import { buildVariant, variantInputs } from './native.mjs';
import { step } from './progress.mjs';
import { AARCH64_TOOLS, TOOLS, checkTools } from './requirements.mjs';
import { ROOT, SetupError, clearLog, exclusively, main } from './run.mjs';
import { ensureUpstream } from './setup.mjs';

/** Names as in lib/addon/variants.ts, whose order says which is tried first. */
const VARIANTS = { x64: ['baseline', 'avx512'], arm64: ['baseline', 'dotprod'] };

/** Where a variant's addon is kept. */
export function prebuildPath(arch, variant) {
  return join('prebuilds', `${process.platform}-${arch}`, `ternion.${variant}.node`);
}

/** Makes the prebuilds that are missing or stale. */
export async function ensurePrebuilds(arch, variants = VARIANTS[arch]) {
  const stale = variants.filter((variant) => !isFresh(stampName(arch, variant), variantInputs(arch, variant), prebuildPath(arch, variant)));
  if (stale.length === 0) return;
  const cross = arch !== process.arch;
  checkTools(cross ? [...TOOLS, AARCH64_TOOLS[0]] : TOOLS);
  await exclusively(async () => {
    clearLog();
    await ensureUpstream();
    for (const variant of stale) {
      const inputs = variantInputs(arch, variant);
      await step(`${prebuildPath(arch, variant)} (first time: some minutes)`, async (show) => {
        place(await buildVariant(arch, variant, show), prebuildPath(arch, variant), cross);
      });
      writeStamp(stampName(arch, variant), inputs);
    }
  });
}

function stampName(arch, variant) {
  return `prebuild-${process.platform}-${arch}-${variant}`;
}

// Beside and renamed: a running process may have the old one mapped.
function place(from, to, cross) {
  const target = join(ROOT, to);
  mkdirSync(join(target, '..'), { recursive: true });
  copyFileSync(from, `${target}.new`);
  if (process.platform !== 'win32') {
    const strip = cross ? 'aarch64-linux-gnu-strip' : 'strip';
    const result = spawnSync(strip, [process.platform === 'darwin' ? '-x' : '--strip-all', `${target}.new`], { encoding: 'utf8' });
    if (result.status !== 0) throw new SetupError(`${strip} failed: ${result.error?.message ?? result.stderr}`);
  }
  renameSync(`${target}.new`, target);
}

if (process.argv[1] === import.meta.filename) {
  await main(async (args) => {
    const { values } = parseArgs({ args, options: { arch: { type: 'string', default: process.arch }, variant: { type: 'string' } } });
    const known = VARIANTS[values.arch];
    if (!known) throw new SetupError(`--arch takes ${Object.keys(VARIANTS).join(' or ')}; found ${values.arch}`);
    if (values.arch !== process.arch && !(process.platform === 'linux' && values.arch === 'arm64')) {
      throw new SetupError(`${values.arch} is cross-compiled on Linux for arm64 alone; build it on such a machine`);
    }
    if (values.variant && !known.includes(values.variant)) {
      throw new SetupError(`--variant takes ${known.join(' or ')} for ${values.arch}; found ${values.variant}`);
    }
    const variants = values.variant ? [values.variant] : known;
    await ensurePrebuilds(values.arch, variants);
    for (const path of variants.map((variant) => prebuildPath(values.arch, variant))) {
      if (existsSync(join(ROOT, path))) console.log(`${path}  ${(statSync(join(ROOT, path)).size / 1e6).toFixed(1)} MB`);
    }
  });
}
