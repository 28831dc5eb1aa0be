#!/usr/bin/env node
// npm run test:asan, test:tsan, test:valgrind: tests under tools that see what no test asserts. Each has a build of its own in .build, without Vulkan.
//
//   asan       AddressSanitizer, UndefinedBehaviorSanitizer and LeakSanitizer: the engine's C++ tests, then the addon inside Node
//   tsan       ThreadSanitizer: the engine's C++ tests
//   valgrind   memcheck: those of the engine's C++ tests that are done within minutes
//
//   --cpp, --node        only that half (asan)
//   --no-build           with what was built last
//   PATTERN…             only tests whose names match: C++ ones, and files of the addon's tests
//
// What is suppressed, and why: native/test/suppressions.

import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { ROOT, SetupError, WORK, ask, main, runForeground } from './run.mjs';
import { setUpVariant } from './setup.mjs';

const SUPPRESSIONS = join(ROOT, 'native', 'test', 'suppressions');
const flags = (cxx) => [`CMAKE_C_FLAGS_RELEASE=-O1 -DNDEBUG`, `CMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG ${cxx}`.trim()];

export const VARIANTS = {
  asan: { folder: join(WORK, 'asan'), values: ['TERNION_SANITIZE=address,undefined', ...flags('-D_GLIBCXX_ASSERTIONS')] },
  // ggml's pool and the kernels on it hand over by atomics that they spin on, thousands of times a step: with the engine alone it takes minutes.
  tsan: { folder: join(WORK, 'tsan'), values: ['TERNION_SANITIZE=thread', 'TERNION_SANITIZE_OWN=ON'] },
  // memcheck knows no AVX-512: ggml is built for AVX2, and our kernels look at what the processor, here valgrind's, says that it has.
  valgrind: { folder: join(WORK, 'valgrind'), values: ['GGML_NATIVE=OFF'] },
};
const TOOLS = { valgrind: [{ name: 'valgrind', package: 'valgrind', version: () => ask('valgrind', ['--version']) }] };

/** Of the C++ tests those that memcheck, 30 times slower and on one core, is done with in minutes. */
const QUICK = ['cache_folder_test', 'engine_test', 'host_memory_test', 'prefix_tree_test', 'snapshot_test', 'state_store_test', 'stq1_0_test', 'text_test', 'thread_governor_test'];

/** The environment of a program with AddressSanitizer; `atExit`: one that frees everything, so that what is left leaked. */
export function asanEnvironment({ atExit }) {
  const address = ['detect_leaks=1', `leak_check_at_exit=${Number(atExit)}`, 'detect_stack_use_after_return=1', 'strict_string_checks=1', 'halt_on_error=1'];
  return {
    ASAN_OPTIONS: address.join(':'),
    LSAN_OPTIONS: `suppressions=${join(SUPPRESSIONS, 'lsan.supp')}:print_suppressions=0`,
    UBSAN_OPTIONS: `suppressions=${join(SUPPRESSIONS, 'ubsan.supp')}:halt_on_error=1:print_stacktrace=1`,
  };
}

/** That of a Node that loads the addon with AddressSanitizer, which has to be there first, and before it what it takes its interceptors from. */
export function asanNodeEnvironment() {
  const compiler = process.env.CXX ?? 'c++';
  const libraries = ['libasan.so', 'libubsan.so', 'libstdc++.so.6'].map((name) => ask(compiler, [`-print-file-name=${name}`]));
  return { ...asanEnvironment({ atExit: false }), LD_PRELOAD: libraries.join(' '), TERNION_ADDON: join(VARIANTS.asan.folder, 'addon', 'ternion.node') };
}

async function ctest(name, env, patterns, elsewhere = false) {
  const only = patterns.length === 0 ? [] : ['-R', patterns.join('|')];
  const args = ['--test-dir', VARIANTS[name].folder, '--output-on-failure', elsewhere && patterns.length > 0 ? '--no-tests=ignore' : '--no-tests=error', ...only];
  // Addresses at random, as far as recent kernels go, leave ThreadSanitizer of older compilers no room.
  return name === 'tsan' ? runForeground('setarch', ['-R', 'ctest', ...args], env) : runForeground('ctest', args, env);
}

const RUNS = {
  async asan({ cpp, node }, patterns) {
    let failed = 0;
    if (!node) failed += Number((await ctest('asan', { ...process.env, ...asanEnvironment({ atExit: true }) }, patterns, !cpp)) !== 0);
    if (!cpp) {
      const vitest = [join(ROOT, 'node_modules', 'vitest', 'vitest.mjs'), 'run', '--config', join(ROOT, 'test', 'asan.config.ts'), ...(node ? [] : ['--passWithNoTests']), ...patterns];
      failed += Number((await runForeground(process.execPath, vitest, { ...process.env, ...asanNodeEnvironment() })) !== 0);
    }
    return failed;
  },
  async tsan(_, patterns) {
    const options = `suppressions=${join(SUPPRESSIONS, 'tsan.supp')}:ignore_noninstrumented_modules=1:halt_on_error=0:second_deadlock_stack=1:history_size=4`;
    return Number((await ctest('tsan', { ...process.env, TSAN_OPTIONS: options }, patterns)) !== 0);
  },
  async valgrind(_, patterns) {
    const options = ['--quiet', '--error-exitcode=99', '--leak-check=full', '--show-leak-kinds=definite', '--errors-for-leak-kinds=definite', '--fair-sched=yes', `--suppressions=${join(SUPPRESSIONS, 'valgrind.supp')}`];
    let failed = 0;
    const chosen = QUICK.filter((test) => patterns.length === 0 || patterns.some((pattern) => test.includes(pattern)));
    if (chosen.length === 0) throw new SetupError(`no test is named like ${patterns.join(' or ')}; there are ${QUICK.join(', ')}`);
    for (const name of chosen) {
      const started = performance.now();
      const code = await runForeground('valgrind', [...options, join(VARIANTS.valgrind.folder, 'bin', name)]);
      console.log(`${code === 0 ? 'ok    ' : 'FAILED'} ${name} (${((performance.now() - started) / 1000).toFixed(0)} s)`);
      failed += Number(code !== 0);
    }
    return failed;
  },
};

if (process.argv[1] === import.meta.filename) {
  await main(async (args) => {
    const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { cpp: { type: 'boolean' }, node: { type: 'boolean' }, 'no-build': { type: 'boolean' } } });
    const [name, ...patterns] = positionals;
    if (!Object.hasOwn(RUNS, name ?? '')) throw new SetupError(`which tool? Expected ${Object.keys(RUNS).join(', ')}; found ${name ?? 'none'}`);
    const targets = name === 'valgrind' ? QUICK : undefined;
    if (!values['no-build']) await setUpVariant(`build for ${name}`, { ...VARIANTS[name], targets }, TOOLS[name]);
    const failed = await RUNS[name](values, patterns);
    console.log(failed === 0 ? `${name}: nothing found, on up to ${availableParallelism()} cores` : `${name}: see above`);
    return failed === 0 ? 0 : 1;
  });
}
