#!/usr/bin/env node
// Puts Vulkan headers and a shader compiler that ggml-vulkan can be built with into .toolchain/vulkan, for systems
// whose own are too old (Debian 12). They are Debian 13's packages, unpacked and run through their own C library:
// no root is needed and the system stays as it is. CMake calls this when the system's tools do not do.
//
//   bin/glslc      wrapper that runs the unpacked compiler
//   usr/include    Vulkan and SPIR-V headers
//
// Prints one line saying why when it cannot be done, and exits 1.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { cacheFolder } from '../vendor/origin.mjs';
import { swapIntoPlace } from '../vendor/tree.mjs';
import { debianMirror, readSources } from './apt-sources.mjs';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const SUITE = 'trixie';
const PACKAGES = ['glslc', 'libshaderc1', 'libvulkan-dev', 'spirv-headers', 'libc6', 'libstdc++6', 'libgcc-s1'];
const MANIFEST = 'SHA256SUMS';

export class ToolchainError extends Error {
  name = 'ToolchainError';
}

/** Makes .toolchain/vulkan unless it is there. Returns its path. */
export function ensureToolchain(target = join(ROOT, '.toolchain', 'vulkan')) {
  if (existsSync(join(target, 'bin', 'glslc'))) return target;

  const packages = cachedPackages() ?? downloadPackages();
  mkdirSync(dirname(target), { recursive: true });
  const scratch = mkdtempSync(`${target}.new-`);
  try {
    for (const file of packages) must('dpkg-deb', ['-x', file, scratch], 'unpacking failed');
    writeWrapper(scratch);
    must(join(scratch, 'bin', 'glslc'), ['--version'], 'the unpacked glslc does not run');
    swapIntoPlace(scratch, target);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return target;
}

/** Folder that keeps the downloaded packages, one per architecture. */
function packageCache() {
  const result = spawnSync('dpkg', ['--print-architecture'], { encoding: 'utf8' });
  if (result.status !== 0) throw new ToolchainError('this is no Debian system (dpkg was not found)');
  return join(cacheFolder(), `vulkan-${SUITE}-${result.stdout.trim()}`);
}

/** The packages of an earlier download, if they are all there and unharmed. */
function cachedPackages(folder = packageCache()) {
  const manifest = join(folder, MANIFEST);
  if (!existsSync(manifest)) return undefined;
  const lines = readFileSync(manifest, 'utf8').trim().split('\n');
  const intact = lines.every((line) => {
    const [hash, name] = line.split('  ');
    return existsSync(join(folder, name)) && sha256(join(folder, name)) === hash;
  });
  return intact ? lines.map((line) => join(folder, line.split('  ')[1])) : undefined;
}

// apt checks the archive's signature and every package's hash; all it is given is a configuration of our own.
function downloadPackages() {
  const { uri, signedBy } = mirror();
  const folder = packageCache();
  const scratch = mkdtempSync(`${folder}.new-`);
  try {
    for (const part of ['etc', 'lists/partial', 'cache/archives/partial', 'packages']) {
      mkdirSync(join(scratch, part), { recursive: true });
    }
    writeFileSync(join(scratch, 'status'), '');
    const stanza = [`Types: deb`, `URIs: ${uri}`, `Suites: ${SUITE}`, `Components: main`];
    if (signedBy) stanza.push(`Signed-By: ${signedBy}`);
    writeFileSync(join(scratch, 'etc', 'debian.sources'), `${stanza.join('\n')}\n`);

    const settings = {
      'Dir::Etc::SourceList': '/dev/null',
      'Dir::Etc::SourceParts': join(scratch, 'etc'),
      'Dir::Etc::Preferences': '/dev/null',
      'Dir::Etc::PreferencesParts': '/dev/null',
      'Dir::State': scratch,
      'Dir::State::Lists': join(scratch, 'lists'),
      'Dir::State::Status': join(scratch, 'status'),
      'Dir::Cache': join(scratch, 'cache'),
      'APT::Sandbox::User': '', // the folder above belongs to this user, who need not be root
      'Acquire::Languages': 'none',
      'Acquire::Retries': '2',
    };
    const options = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
    must('apt-get', [...options, 'update', '--error-on=any'], `Debian 13's package list cannot be fetched`);
    must('apt-get', [...options, 'download', ...PACKAGES], `Debian 13's packages cannot be fetched`, join(scratch, 'packages'));

    const names = readdirSync(join(scratch, 'packages')).sort();
    const sums = names.map((name) => `${sha256(join(scratch, 'packages', name))}  ${name}\n`);
    writeFileSync(join(scratch, 'packages', MANIFEST), sums.join(''));
    rmSync(folder, { recursive: true, force: true });
    renameSync(join(scratch, 'packages'), folder);
    return names.map((name) => join(folder, name));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function mirror() {
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  const codename = /^VERSION_CODENAME="?([a-z]+)"?$/m.exec(release)?.[1];
  if (!/^ID="?debian"?$/m.test(release) || !codename) throw new ToolchainError('this is no Debian system');
  const found = debianMirror(readSources(), codename);
  if (!found) throw new ToolchainError(`apt's configuration names no mirror for ${codename}`);
  return found;
}

// Relative to itself, so that the checkout may be moved.
function writeWrapper(root) {
  const libraries = join('usr', 'lib');
  const triplet = readdirSync(join(root, libraries)).find((entry) => entry.includes('-linux-gnu'));
  const loader = triplet && readdirSync(join(root, libraries, triplet)).find((entry) => entry.startsWith('ld-linux'));
  if (!loader) throw new ToolchainError('the unpacked C library has no loader');
  const lib = `$root/usr/lib/${triplet}`;
  mkdirSync(join(root, 'bin'));
  writeFileSync(
    join(root, 'bin', 'glslc'),
    `#!/bin/sh\nroot="\${0%/*}/.."\nexec "${lib}/${loader}" --library-path "${lib}" "$root/usr/bin/glslc" "$@"\n`,
  );
  chmodSync(join(root, 'bin', 'glslc'), 0o755);
}

function must(command, args, what, cwd) {
  const result = spawnSync(command, args, { encoding: 'utf8', cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  if (result.error?.code === 'ENOENT') throw new ToolchainError(`${what}: ${command} was not found`);
  if (result.status !== 0) {
    const lines = `${result.stderr}\n${result.stdout}`.split('\n');
    const reason = lines.find((line) => /^E:|error/i.test(line)) ?? lines.find(Boolean) ?? `exit ${result.status}`;
    throw new ToolchainError(`${what}: ${reason.replace(/^E: /, '')}`);
  }
}

function sha256(file) {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    ensureToolchain();
  } catch (error) {
    if (!(error instanceof ToolchainError)) throw error;
    console.log(error.message);
    process.exitCode = 1;
  }
}
