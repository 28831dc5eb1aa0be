// The tools that a build from source needs. All that are missing are named at once, with how to get them.

import { isFresh as sourceIsFresh } from '../vendor/fetch.mjs';
import { SetupError, ask } from './run.mjs';

const compiler = process.env.CXX ?? 'c++';

/** What unpacks llama.cpp's source where it is not there, as it is in the package that users install. */
export const FETCH_TOOLS = [
  { name: 'git', package: 'git', version: () => ask('git', ['--version']) },
  { name: 'tar', package: 'tar', version: () => ask('tar', ['--version']) },
];

export const TOOLS = [
  { name: 'cmake', package: 'cmake', version: () => ask('cmake', ['--version']), least: [3, 25] },
  {
    name: 'make or ninja',
    package: 'make',
    version: () => ask('ninja', ['--version']) ?? ask('make', ['--version']),
  },
  {
    name: 'a C++20 compiler',
    package: 'g++',
    version: () => gccVersion() ?? ask(compiler, ['--version']),
    least: [12],
    of: 'g++',
  },
];

/** What the kernels' tests for ARM take beside that. */
export const AARCH64_TOOLS = [
  {
    name: 'a C++20 compiler for aarch64',
    package: 'g++-aarch64-linux-gnu',
    version: () => ask('aarch64-linux-gnu-g++', ['-dumpfullversion']),
    least: [12],
    of: 'aarch64-linux-gnu-g++',
  },
  { name: 'qemu-aarch64', package: 'qemu-user', version: () => ask('qemu-aarch64', ['--version']) },
];

/** Throws one line naming everything that is missing or too old. */
export function checkTools(tools = TOOLS) {
  const missing = [...(sourceIsFresh() ? [] : FETCH_TOOLS), ...tools].flatMap((tool) => {
    const printed = tool.version();
    if (printed === undefined) return [{ what: tool.name, package: tool.package }];
    const found = versionIn(printed);
    if (!tool.least || !isOlder(found, tool.least)) return [];
    return [{ what: `${tool.of ?? tool.name} ≥ ${tool.least.join('.')} (found ${found.join('.')})`, package: tool.package }];
  });
  if (missing.length === 0) return;
  const packages = missing.map((entry) => entry.package).join(' ');
  throw new SetupError(`missing: ${missing.map((entry) => entry.what).join(', ')}; on Debian: apt-get install ${packages}`);
}

// Only g++ has a minimum here: clang reports other numbers, and CMake checks it for C++20 anyway.
function gccVersion() {
  const about = ask(compiler, ['--version']);
  return about === undefined || /clang/i.test(about) ? undefined : ask(compiler, ['-dumpfullversion']);
}

export function versionIn(text) {
  return (/\d+(?:\.\d+)*/.exec(text)?.[0] ?? '0').split('.').map(Number);
}

export function isOlder(found, least) {
  for (const [index, wanted] of least.entries()) {
    const part = found[index] ?? 0;
    if (part !== wanted) return part < wanted;
  }
  return false;
}
