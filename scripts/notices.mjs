#!/usr/bin/env node
// THIRD_PARTY_NOTICES from what is really linked: the linker's map of the addon names every archive member it took.
//
//   node scripts/notices.mjs           write the file
//   node scripts/notices.mjs --check   exit 1 if it is not what would be written

import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { places } from '../vendor/fetch.mjs';
import { ROOT, SetupError, WORK, main } from './run.mjs';

const OUTPUT = join(ROOT, 'THIRD_PARTY_NOTICES');
const MIT = readFileSync(join(ROOT, 'LICENSE'), 'utf8').split('\n').slice(4).join('\n').trim();

/** Who wrote what: `members` matches `libx.a(member.o)` as the map prints it, `text` gives the licence. */
const COMPONENTS = [
  { name: 'llama.cpp and ggml', members: /^lib(llama|ggml|ggml-base|ggml-cpu|ternion_common)\.a\(/, text: () => vendored('LICENSE') },
  { name: 'JSON for Modern C++', members: /^libternion_common\.a\(json/, text: () => vendored('licenses/LICENSE-jsonhpp') },
  {
    name: 'llamafile (tiny BLAS)',
    members: /^libggml-cpu\.a\(sgemm\.cpp/,
    text: () => leadingComment(vendored('ggml/src/ggml-cpu/llamafile/sgemm.cpp')),
  },
  { name: 'YaRN', members: /^libggml-cpu\.a\(ops\.cpp/, text: () => mit('2023 Jeffrey Quesnelle and Bowen Peng') },
  {
    name: 'Unicode Character Database (tables derived from it)',
    members: /^libllama\.a\(unicode-data/,
    text: () => 'Copyright © 1991-present Unicode, Inc.\nSPDX-License-Identifier: Unicode-3.0 (https://www.unicode.org/license.txt)',
  },
  // Header-only, compiled into the engine's objects, which are no archive's members.
  { name: 'xxHash', members: /^$/, always: true, text: () => vendored('vendor/hash/xxhash/LICENSE') },
  // Header-only, compiled into ggml-vulkan. Listed always: whether a build has Vulkan depends on the machine.
  {
    name: 'Vulkan-Headers and SPIRV-Headers',
    members: /^libggml-vulkan\.a\(/,
    always: true,
    text: () => mit('2014-2025 The Khronos Group Inc.'),
  },
];

// Ours, and what belongs to the compiler and the C library.
const IGNORED = /^lib(ternion_kernels|ternion_vulkan|gcc|gcc_eh|c_nonshared|stdc\+\+|dl|pthread)\.a\(/;

function vendored(path) {
  return readFileSync(join(places().target, path), 'utf8').trim();
}

function mit(holder) {
  return `MIT License\n\nCopyright (c) ${holder}\n\n${MIT}`;
}

function leadingComment(source) {
  const lines = source.split('\n');
  const end = lines.findIndex((line) => !line.startsWith('//'));
  return lines.slice(0, end).map((line) => line.replace(/^\/\/ ?/, '')).join('\n');
}

/** Archive members in a GNU ld map, as `libx.a(member.o)`. */
export function linkedMembers(map) {
  const members = map.matchAll(/^(?:\S*\/)?(lib[\w.+-]+\.a\([^)]+\))/gm);
  return [...new Set([...members].map((match) => match[1]))];
}

function componentsOf(members) {
  const strangers = members.filter((member) => !IGNORED.test(member) && !COMPONENTS.some((part) => part.members.test(member)));
  if (strangers.length > 0) {
    throw new SetupError(`linked, but unknown to scripts/notices.mjs: ${strangers.slice(0, 5).join(', ')}`);
  }
  return COMPONENTS.filter((part) => part.always || members.some((member) => part.members.test(member)));
}

function npmPackages() {
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  return Object.keys(dependencies).map((name) => ({
    name: `${name} (npm)`,
    text: () => readFileSync(join(ROOT, 'node_modules', name, 'LICENSE'), 'utf8').trim(),
  }));
}

export function render(parts) {
  const intro =
    'ternion is under the MIT License (see LICENSE). Its addon and its npm dependencies contain the work of others:\n' +
    'each is named here with its licence. Made by scripts/notices.mjs from what is linked; do not edit.\n';
  const rule = '='.repeat(100);
  return intro + parts.map(({ name, text }) => `\n${rule}\n${name}\n${rule}\n\n${text()}\n`).join('');
}

await main((args) => {
  const map = (folder) => join(WORK, folder, 'addon', 'ternion.node.map');
  if (!existsSync(map('cmake'))) throw new SetupError('no link map; run: npm run build');
  const prebuilds = readdirSync(WORK).filter((name) => name.startsWith('prebuild-') && existsSync(map(name)));
  const members = ['cmake', ...prebuilds].flatMap((folder) => linkedMembers(readFileSync(map(folder), 'utf8')));
  const wanted = render([...componentsOf(members), ...npmPackages()]);

  if (!args.includes('--check')) {
    writeFileSync(OUTPUT, wanted);
  } else if (!existsSync(OUTPUT) || readFileSync(OUTPUT, 'utf8') !== wanted) {
    throw new SetupError('THIRD_PARTY_NOTICES does not match what is linked; run: npm run notices');
  }
});
