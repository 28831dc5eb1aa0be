// Brings a checkout into a state in which the program, or its tests, can run: npm packages, llama.cpp's source, the
// addon, the compiled TypeScript. Does only what is missing or stale, and says nothing when nothing is.

import { chmodSync, existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { ensureSource, isFresh as sourceIsFresh } from '../vendor/fetch.mjs';
import { swapIntoPlace } from '../vendor/tree.mjs';
import { hashInputs, isFresh, writeStamp } from './freshness.mjs';
import { ADDON, SERVER, buildAarch64Tests, buildBeside, buildNative, buildServer, nativeInputs, serverInputs } from './native.mjs';
import { step } from './progress.mjs';
import { AARCH64_TOOLS, TOOLS, checkTools } from './requirements.mjs';
import { ROOT, WORK, clearLog, exclusively, run } from './run.mjs';

/** @param {{ tests?: boolean, server?: boolean }} [options]  `server`: also llama.cpp's, for benchmarks */
export async function setUp({ tests = false, server = false } = {}) {
  if (everythingIsFresh(tests, server)) return;
  await exclusively(async () => {
    clearLog();
    if (!nativeIsFresh(tests, server)) checkTools();
    await ensurePackages();
    await ensureAddon({ tests });
    if (server) await ensureServer();
    await ensureTypeScript();
  });
}

/** The kernels' tests for ARM; nothing else is needed for them. */
export async function setUpAarch64() {
  checkTools([...TOOLS, ...AARCH64_TOOLS]);
  await exclusively(async () => {
    await ensureUpstream();
    await step("kernels' tests for aarch64 (first time: some minutes)", (show) => buildAarch64Tests(show));
  });
}

/** A build beside the usual one (`buildBeside`), and what its tests take beside it. */
export async function setUpVariant(name, variant, tools = []) {
  checkTools([...TOOLS, ...tools]);
  await exclusively(async () => {
    await ensurePackages();
    await ensureUpstream();
    await step(`${name} (first time: some 15 minutes)`, (show) => buildBeside(variant, show));
    await ensureTypeScript();
  });
}

function everythingIsFresh(tests, server) {
  return packagesAreFresh() && nativeIsFresh(tests, server) && isFresh('typescript', typeScriptInputs(), 'dist');
}

function nativeIsFresh(tests, server) {
  return addonIsFresh(tests) && (!server || serverIsFresh());
}

// npm writes its own copy of the lock last.
function packagesAreFresh() {
  const installed = join(ROOT, 'node_modules', '.package-lock.json');
  return existsSync(installed) && statSync(installed).mtimeMs >= statSync(join(ROOT, 'package-lock.json')).mtimeMs;
}

// Our own install script would build the addon through node-gyp, which the next step does without.
async function ensurePackages() {
  if (packagesAreFresh()) return;
  const npm = process.env.npm_execpath ? [process.execPath, process.env.npm_execpath] : ['npm'];
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund'];
  await step('npm packages', () => run(npm[0], [...npm.slice(1), ...args]));
}

function addonIsFresh(tests) {
  return sourceIsFresh() && isFresh(tests ? 'tests' : 'addon', nativeInputs({ tests }), ADDON);
}

export async function ensureUpstream() {
  if (!sourceIsFresh()) await step("llama.cpp's source", () => ensureSource());
}

/** @param {Parameters<typeof buildNative>[0] & { force?: boolean }} options */
export async function ensureAddon({ force = false, ...options }) {
  await ensureUpstream();
  if (!force && addonIsFresh(options.tests)) return;

  const inputs = { addon: nativeInputs({ tests: false }), tests: nativeInputs({ tests: true }) };
  const name = options.tests ? 'native addon, C++ tests and tools' : 'native addon';
  await step(`${name} (first time: some minutes)`, (show) => buildNative(options, show));
  writeStamp('addon', inputs.addon);
  if (options.tests) writeStamp('tests', inputs.tests);
}

function serverIsFresh() {
  return sourceIsFresh() && isFresh('server', serverInputs(), SERVER);
}

/** After `ensureAddon`, which gets the source. */
async function ensureServer() {
  if (serverIsFresh()) return;
  const inputs = serverInputs();
  await step("llama.cpp's server (first time: some minutes)", (show) => buildServer(show));
  writeStamp('server', inputs);
}

function typeScriptInputs() {
  return hashInputs(['lib', 'tsconfig.json', 'package-lock.json']);
}

// Compiled beside and swapped in: dist never holds files of deleted sources, nor half a build.
export async function ensureTypeScript() {
  const inputs = typeScriptInputs();
  if (isFresh('typescript', inputs, 'dist')) return;
  const fresh = join(WORK, 'dist');
  await step('TypeScript', async () => {
    const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
    mkdirSync(fresh, { recursive: true });
    await run(process.execPath, [tsc, '-p', ROOT, '--outDir', fresh, '--noEmitOnError']);
    chmodSync(join(fresh, 'cli', 'main.js'), 0o755); // `npx ternion` runs it; npm sets this once, at installing
    swapIntoPlace(fresh, join(ROOT, 'dist'));
  });
  writeStamp('typescript', inputs);
}
