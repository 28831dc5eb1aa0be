// Builds the addon, and for the tests everything that stands beside it, with CMake.

import { existsSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';

import { places, wantedStamp } from '../vendor/fetch.mjs';
import { hashInputs } from './freshness.mjs';
import { note } from './progress.mjs';
import { ROOT, WORK, ask, run } from './run.mjs';

export const ADDON = 'build/Release/ternion.node';
export const SERVER = '.build/cmake/bin/llama-server';
export const FOLDER = join(WORK, 'cmake');
export const AARCH64_FOLDER = join(WORK, 'aarch64');
const RECIPE = ['CMakeLists.txt', 'cmake'];
const INPUTS = [...RECIPE, 'kernels', 'native'];

// A compiler of llama.cpp's larger files takes up to this much memory.
const JOB_BYTES = 1.5 * 2 ** 30;

/** CMake options that the environment may set, as `TERNION_HIP=ON npm run build`. */
const SETTINGS = ['TERNION_VULKAN', 'TERNION_HIP', 'TERNION_HIP_TARGETS', 'TERNION_CUDA'];

/** What the addon (or, with tests, everything) is made from, as one string. */
export function nativeInputs({ tests }) {
  const skip = tests ? () => false : (path) => path === 'native/test';
  return hashInputs(INPUTS, [wantedStamp(), ...definitions()], skip);
}

/** What llama.cpp's server is made from: nothing of ours. */
export function serverInputs() {
  return hashInputs(RECIPE, [wantedStamp(), ...definitions()]);
}

function definitions() {
  const set = SETTINGS.filter((name) => process.env[name]).map((name) => `${name}=${process.env[name]}`);
  return [...set, `TERNION_LLAMA_DIR=${places().target}`];
}

/**
 * @param {object} options
 * @param {boolean} options.tests        also our C++ tests and llama.cpp's own programs
 * @param {string} [options.nodeInclude] folder of node_api.h; without it the node-api-headers package's
 * @param {boolean} [options.cmakeJs]    through cmake-js, which also knows Electron and Windows
 * @param {(text: string) => void} show
 */
export async function buildNative({ tests, nodeInclude, cmakeJs }, show) {
  const values = [...definitions(), `TERNION_NODE_INCLUDE=${nodeInclude ?? ''}`];
  // Tests stay configured once they were, so that npm start and npm test do not take turns at reconfiguring.
  if (tests) values.push('TERNION_TESTS=ON', 'TERNION_UPSTREAM_TOOLS=ON');

  if (!cmakeJs) return cmake(values, tests ? [] : ['ternion-place'], show);
  dropForeignFolder(FOLDER);
  const options = values.map((value) => `--CD${value}`);
  const program = join(ROOT, 'node_modules', 'cmake-js', 'bin', 'cmake-js');
  const args = [program, 'build', '--out', FOLDER, '--parallel', jobs(), ...options];
  return run(process.execPath, args, { onLine: progressReader(show) });
}

/** llama.cpp's server, which no other build makes. @param {(text: string) => void} show */
export async function buildServer(show) {
  await cmake([...definitions(), 'TERNION_NODE_INCLUDE=', 'TERNION_UPSTREAM_TOOLS=ON'], ['llama-server'], show);
}

/** The kernels' tests for a processor that is emulated, in a folder of their own. @param {(text: string) => void} show */
export async function buildAarch64Tests(show) {
  const values = [`CMAKE_TOOLCHAIN_FILE=${join(ROOT, 'cmake', 'aarch64.cmake')}`, `TERNION_LLAMA_DIR=${places().target}`];
  values.push('TERNION_KERNELS_ONLY=ON', 'TERNION_TESTS=ON', 'TERNION_VULKAN=OFF', 'GGML_NATIVE=OFF');
  await cmake(values, [], show, AARCH64_FOLDER);
}

/** What a prebuild is made from. */
export function variantInputs(arch, variant) {
  return hashInputs(INPUTS, [wantedStamp(), ...variantDefinitions(arch, variant)], (path) => path === 'native/test');
}

function variantDefinitions(arch, variant) {
  const cross = arch === process.arch ? [] : [`CMAKE_TOOLCHAIN_FILE=${join(ROOT, 'cmake', 'aarch64.cmake')}`];
  // A prebuild never goes without Vulkan because a tool was missing. Those that are cross-compiled are for boards' CPUs alone.
  const vulkan = cross.length > 0 ? 'OFF' : 'ON';
  return [...cross, `TERNION_LLAMA_DIR=${places().target}`, `TERNION_VARIANT=${variant}`, 'TERNION_NODE_INCLUDE=', `TERNION_VULKAN=${vulkan}`];
}

/** One of the addons that the package carries. Returns its path. @param {(text: string) => void} show */
export async function buildVariant(arch, variant, show) {
  const folder = join(WORK, `prebuild-${process.platform}-${arch}`);
  await cmake(variantDefinitions(arch, variant), ['ternion'], show, folder);
  return join(folder, 'addon', 'ternion.node');
}

/**
 * A build beside the usual one, without Vulkan, in a folder of its own.
 * @param {{ folder: string, values: string[], targets?: string[] }} build  CMake's options; without targets everything
 * @param {(text: string) => void} show
 */
export async function buildBeside({ folder, values, targets = [] }, show) {
  const usual = [`TERNION_LLAMA_DIR=${places().target}`, 'TERNION_NODE_INCLUDE=', 'TERNION_TESTS=ON', 'TERNION_VULKAN=OFF'];
  await cmake([...usual, `TERNION_OUTPUT_DIR=${join(folder, 'placed')}`, ...values], targets, show, folder);
}

/** Configures and builds: the targets, or without any everything that is built by default. */
async function cmake(values, targets, show, folder = FOLDER) {
  const onLine = progressReader(show);
  dropForeignFolder(folder);
  // A variable that the environment no longer sets goes back to its default.
  const unset = SETTINGS.filter((name) => !process.env[name]).map((name) => `-U${name}`);
  if (folder !== FOLDER) unset.push('-UHAVE_*'); // what upstream found that a variant's compiler flags can do
  const generator = existsSync(folder) ? [] : ['-G', ask('ninja', ['--version']) ? 'Ninja' : 'Unix Makefiles'];
  await run('cmake', ['-S', ROOT, '-B', folder, ...generator, ...unset, ...values.map((value) => `-D${value}`)], { onLine });
  await run('cmake', ['--build', folder, '--parallel', jobs(), ...targets.flatMap((target) => ['--target', target])], { onLine });
}

function jobs() {
  return String(Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / JOB_BYTES))));
}

function progressReader(show) {
  return (line) => {
    const progress = /^\[ *(\d+%|\d+\/\d+)\]/.exec(line)?.[1];
    if (progress) show(progress);
    const remark = /^-- ternion: (built without .*)/.exec(line)?.[1];
    if (remark) note(remark);
  };
}

// CMake refuses a folder that was made for another place: the checkout was moved or copied.
function dropForeignFolder(folder) {
  const cache = join(folder, 'CMakeCache.txt');
  const home = existsSync(cache) && /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m.exec(readFileSync(cache, 'utf8'))?.[1];
  if (home !== ROOT) rmSync(folder, { recursive: true, force: true });
}
