import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { candidates, choiceOf, packageRoot } from '../../dist/addon/candidates.js';
import type { Choice } from '../../dist/addon/candidates.js';
import { featuresIn, glibcVersionOf, mappedCLibrary, thisPlatform } from '../../dist/addon/platform.js';
import type { Platform } from '../../dist/addon/platform.js';
import { failure, search } from '../../dist/addon/search.js';
import { cpuLevel, variantsOf } from '../../dist/addon/variants.js';

let root: string;

beforeEach(() => (root = mkdtempSync(join(tmpdir(), 'ternion-addon-'))));
afterEach(() => rmSync(root, { recursive: true, force: true }));

const features = (arch: string, variant: string) => variantsOf(arch).find(({ name }) => name === variant)!.cpuFeatures;
const linux: Platform = { platform: 'linux', arch: 'x64', libc: 'glibc', libcVersion: '2.36', runtime: 'Node 22.0.0', cpuFeatures: new Set(features('x64', 'avx512')) };
const haswell = { ...linux, cpuFeatures: new Set(features('x64', 'baseline')) };

function put(...paths: string[]): void {
  for (const path of paths) {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), '');
  }
}

/** What is opened on `machine`, where every file of the list is there and loads. */
function chosen(machine: Platform, choice: Choice = {}, at = root): string | undefined {
  return search(candidates({ root: at, machine, choice }), (path) => path).loaded?.path.slice(root.length + 1);
}

const both = ['prebuilds/linux-x64/ternion.avx512.node', 'prebuilds/linux-x64/ternion.baseline.node'];

describe('the addon that is chosen', () => {
  test('is the one that was built here, then the best that the CPU runs', () => {
    put('build/Release/ternion.node', ...both);
    expect(chosen(linux)).toBe('build/Release/ternion.node');
    rmSync(join(root, 'build'), { recursive: true });
    expect(chosen(linux)).toBe(both[0]);
    expect(chosen(haswell)).toBe(both[1]);
  });

  test('is the baseline where a single feature of the better one is missing, or nobody knows the CPU', () => {
    put(...both);
    for (const feature of ['avx512_vnni', 'avx512_vbmi2', 'avx512vbmi', 'avx512cd']) {
      expect(chosen({ ...linux, cpuFeatures: new Set([...linux.cpuFeatures!].filter((name) => name !== feature)) }), feature).toBe(both[1]);
    }
    expect(chosen({ ...linux, cpuFeatures: undefined })).toBe(both[1]);
  });

  test('is the next one where the first does not open', () => {
    put('build/Release/ternion.node', ...both);
    const { loaded, tried, cause } = search(candidates({ root, machine: linux, choice: {} }), (path) => {
      if (!path.endsWith('baseline.node')) throw new Error(`${path}: wrong ELF class\nRequire stack`);
      return path;
    });
    expect(loaded?.path).toBe(join(root, both[1]!));
    expect(tried.map(({ verdict }) => verdict)).toEqual(['failed', 'failed', 'loaded']);
    expect(tried[0]?.reason).toBe(`${tried[0]?.path}: wrong ELF class`);
    expect(cause).toBeInstanceOf(Error);
  });

  test('follows ARM\'s dot product', () => {
    put('prebuilds/linux-arm64/ternion.dotprod.node', 'prebuilds/linux-arm64/ternion.baseline.node');
    const arm = { ...linux, arch: 'arm64', cpuFeatures: new Set(['asimd', ...features('arm64', 'dotprod')]) };
    expect(chosen(arm)).toBe('prebuilds/linux-arm64/ternion.dotprod.node');
    expect(chosen({ ...arm, cpuFeatures: new Set(['asimd']) })).toBe('prebuilds/linux-arm64/ternion.baseline.node');
  });

  test('is what the environment names', () => {
    put(...both, 'mine.node');
    expect(chosen(haswell, choiceOf({ TERNION_PREBUILD: 'avx512' }))).toBe(both[0]);
    expect(chosen(linux, choiceOf({ TERNION_ADDON: join(root, 'mine.node') }))).toBe('mine.node');
    expect(chosen(linux, choiceOf({ TERNION_ADDON: join(root, 'other.node') }))).toBeUndefined();
    expect(chosen(linux, choiceOf({ TERNION_ADDON: '', TERNION_PREBUILD: '' }))).toBe(both[0]);
  });

  test('is unpacked beside an Electron archive', () => {
    const inside = 'resources/app.asar/node_modules/ternion';
    const outside = 'resources/app.asar.unpacked/node_modules/ternion';
    put(`${inside}/${both[0]!}`);
    expect(chosen(linux, {}, join(root, inside))).toBe(`${inside}/${both[0]!}`);
    put(`${outside}/${both[0]!}`);
    expect(chosen(linux, {}, join(root, inside))).toBe(`${outside}/${both[0]!}`);
    expect(chosen(linux, {}, join(root, outside))).toBe(`${outside}/${both[0]!}`);
  });
});

describe('what is thrown when nothing loads', () => {
  const thrown = (machine: Platform, choice: Choice = {}, at = root, open: (path: string) => string = (path) => path) => {
    const where = { root: at, machine, choice };
    const result = search(candidates(where), open);
    expect(result.loaded).toBeUndefined();
    return failure(where, result);
  };

  test('names every path, and is ERR_BINARY_NOT_FOUND where there is no file', () => {
    const error = thrown(linux);
    expect(error.code).toBe('ERR_BINARY_NOT_FOUND');
    for (const path of ['build/Release/ternion.node', ...both]) expect(error.message).toContain(`- ${join(root, path)}: no such file`);
    expect(error.message).toContain('linux-x64, glibc 2.36, Node 22.0.0');
    expect(error.details['tried']).toHaveLength(3);
  });

  test('is ERR_BINARY_INCOMPATIBLE with the features that an old CPU lacks, and how to build', () => {
    put(...both);
    const error = thrown({ ...linux, cpuFeatures: new Set(features('x64', 'baseline').filter((name) => !['avx2', 'fma'].includes(name))) });
    expect(error.code).toBe('ERR_BINARY_INCOMPATIBLE');
    expect(error.message).toMatch(/ternion\.baseline\.node: unfit: this CPU has no avx2, fma$/m);
    expect(error.message).toContain('npm rebuild ternion --build-from-source');
    expect(error.details['path']).toBe(join(root, both[0]!));
  });

  test('says that musl and an older glibc are not what the prebuilds are for, and never opens one there', () => {
    put(...both);
    const never = (): string => expect.unreachable('opened');
    const musl = thrown({ ...linux, libc: 'musl', libcVersion: '' }, {}, root, never);
    expect(musl.code).toBe('ERR_BINARY_INCOMPATIBLE');
    expect(musl.message).toContain('it is for glibc, and this system has musl');
    expect(musl.message).toContain('apk add');
    const old = thrown({ ...linux, libcVersion: '2.31' }, {}, root, never);
    expect(old.message).toContain('it takes glibc 2.34 or newer; found 2.31');
    expect(thrown({ ...linux, libcVersion: '2.4' }, {}, root, never).message).toContain('found 2.4');
  });

  test('gives the system\'s own words, as `cause` too', () => {
    put(both[1]!);
    const error = thrown(haswell, {}, root, () => {
      throw new Error('libm.so.6: cannot open shared object file');
    });
    expect(error.code).toBe('ERR_BINARY_INCOMPATIBLE');
    expect(error.message).toContain('failed: libm.so.6: cannot open shared object file');
    expect(error.cause).toBeInstanceOf(Error);
  });

  test.each([
    ['a checkout', 'lib/addon.ts', '', /npm run build/],
    ['a project', 'node_modules/ternion/package.json', 'node_modules/ternion', /npm install --force ternion/],
    ['a bundle', 'bundle.mjs', '', /--external:ternion/],
    ['an archive', 'app.asar/node_modules/ternion/package.json', 'app.asar/node_modules/ternion', /asarUnpack/],
  ])('mends %s by its own command', (_, file, folder, command) => {
    put(file);
    expect(thrown(linux, {}, join(root, folder)).message).toMatch(command);
  });

  test('says which variable stands in the way', () => {
    expect(thrown(linux, { addon: 'a.node' }).message).toContain('TERNION_ADDON');
    put('a.txt');
    expect(thrown(linux, { addon: join(root, 'a.txt') }).message).toContain('an addon\'s name ends in .node');
    expect(thrown(linux, { prebuild: 'sse' }).message).toMatch(/ternion\.sse\.node: no such file[^]*TERNION_PREBUILD/);
  });

  test('and on a processor without prebuilds that it has to be built', () => {
    const error = thrown({ ...linux, arch: 'riscv64', cpuFeatures: new Set() });
    expect(error.code).toBe('ERR_BINARY_NOT_FOUND');
    expect(error.message).toContain('--build-from-source');
  });
});

describe('the platform', () => {
  test('of this process is known', () => {
    const here = thisPlatform();
    expect(here).toMatchObject({ platform: process.platform, arch: process.arch, libc: 'glibc', runtime: `Node ${process.versions.node}` });
    expect(here.libcVersion).toMatch(/^2\.\d+$/);
    expect(cpuLevel(here)).toMatch(/^x86-64-v\d|^armv8/);
  });

  test('has the C library that is in its memory, of the version that ldd says', () => {
    const maps = (path: string) => `7f00-7f01 r--p 00000000 fe:00 1 /usr/bin/node\n7f02-7f03 r-xp 00000000 fe:00 2   ${path}\n7f04-7f05 rw-p 0 00:00 0 [stack]\n`;
    for (const path of ['/usr/lib/x86_64-linux-gnu/libc.so.6', '/lib64/libc.so.6', '/usr/lib/libc.so.6', '/lib/x86_64-linux-gnu/libc-2.31.so']) expect([path, mappedCLibrary(maps(path))]).toEqual([path, 'system']);
    for (const path of ['/lib/ld-musl-x86_64.so.1', '/opt/musl/libc.musl-x86_64.so.1']) expect(mappedCLibrary(maps(path))).toBe('musl');
    for (const path of ['/home/linuxbrew/.linuxbrew/opt/glibc/lib/libc.so.6', '/nix/store/abc-glibc-2.40/lib/libc.so.6', '/usr/lib/libcurl.so.6']) expect(mappedCLibrary(maps(path))).toBeUndefined();
    expect(glibcVersionOf("#! /bin/bash\n    echo 'ldd (Debian GLIBC 2.36-9+deb12u14) 2.36'\n")).toBe('2.36');
    expect(glibcVersionOf("    echo 'ldd (GNU libc) 2.41'\n")).toBe('2.41');
    for (const other of ['', '#!/bin/sh\necho ldd 2.36', '\u007fELF musl libc']) expect(glibcVersionOf(other)).toBeUndefined();
  });

  test('is read from Linux\' list of the first CPU', () => {
    expect([...featuresIn('processor\t: 0\nflags\t\t: fpu avx2  bmi1\nbugs\t: x\n\nprocessor\t: 1\nflags\t: sse\n')!]).toEqual(['fpu', 'avx2', 'bmi1']);
    expect([...featuresIn('Features\t: fp asimd asimddp\n')!]).toEqual(['fp', 'asimd', 'asimddp']);
    expect(featuresIn('processor : 0\n')).toBeUndefined();
  });

  test('level is the highest that is whole', () => {
    expect(cpuLevel(linux)).toBe('x86-64-v4 with avx512_vnni, avx512vbmi, avx512_vbmi2');
    expect(cpuLevel(haswell)).toBe('x86-64-v3');
    expect(cpuLevel({ ...linux, cpuFeatures: new Set(['avx2', 'pni']) })).toBe('x86-64-v1');
    expect(cpuLevel({ ...linux, cpuFeatures: undefined })).toBe('x64, features unknown');
  });
});

test('the package is found from its own files, and from a bundle beside which it is installed', () => {
  expect(packageRoot()).toBe(`${process.cwd()}/`);
  put('app/out/bundle.mjs');
  mkdirSync(join(root, 'app/node_modules/ternion'), { recursive: true });
  writeFileSync(join(root, 'app/node_modules/ternion/package.json'), '{"name":"ternion"}');
  expect(packageRoot(`file://${root}/app/out/bundle.mjs`)).toBe(join(root, 'app/node_modules/ternion'));
});
