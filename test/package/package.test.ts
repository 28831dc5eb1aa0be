import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { packList } from './tarball.js';

const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as Record<string, Record<string, string>>;
const declarations = readdirSync('dist', { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.d.ts'));

/** Files that the public declarations reach. */
function reachable(from: string, seen = new Set<string>()): Set<string> {
  if (seen.has(from)) return seen;
  seen.add(from);
  const source = readFileSync(`dist/${from}`, 'utf8');
  for (const [, name] of source.matchAll(/from '(\.\.?\/[\w./-]+)\.js'/g)) reachable(join(dirname(from), `${name}.d.ts`), seen);
  return seen;
}

const packed = packList('.');
const contents = packed.files.map(({ path }) => path);

// Bytes, of which 21.9 and 53.5 million were measured (bench/results/package.json); packed they are a quarter to a third of it.
const SOURCES_UNPACKED = 25e6;
const PREBUILD = 58e6;

describe('the package', () => {
  test('has what a user needs to run it and to build it', () => {
    for (const path of ['dist/index.js', 'dist/index.d.ts', 'dist/cli/main.js', 'dist/addon/search.js', 'models/tern-5m-tq2_0.gguf', 'LICENSE', 'THIRD_PARTY_NOTICES', 'README.md', 'docs/install.md',
      'binding.gyp', 'CMakeLists.txt', 'cmake/variant.cmake', 'scripts/build.mjs', 'scripts/install.mjs', 'vendor/llama.lock.json', 'vendor/llama/.ternion-stamp', 'vendor/llama/LICENSE', 'vendor/llama/ggml/src/ggml.c', 'native/engine/backend.cc', 'kernels/cpu/select.cc']) {
      expect(contents, path).toContain(path);
    }
  });

  test('has nothing else', () => {
    const folders = new Set(contents.map((path) => path.split('/')[0]));
    expect([...folders].filter((name) => name !== 'prebuilds').sort()).toEqual([
      'CMakeLists.txt', 'LICENSE', 'README.md', 'SECURITY.md', 'THIRD_PARTY_NOTICES', 'binding.gyp', 'cmake', 'dist', 'docs', 'kernels', 'models', 'native', 'package.json', 'scripts', 'vendor',
    ]);
    expect(contents.filter((path) => /(^|\/)(test|tests|node_modules|\.build|\.toolchain|bench)\/|\.test\.|\.(log|tgz|stamp)$|\.(new|old)-/.test(path) && !path.startsWith('dist/bench/'))).toEqual([]);
    for (const path of contents.filter((name) => name.startsWith('prebuilds/'))) expect(path).toMatch(/^prebuilds\/\w+-\w+\/ternion\.\w+\.node$/);
  });

  test('names no folder of the machine that made it', () => {
    const home = `${process.cwd()}/`;
    for (const path of contents) expect(readFileSync(path).includes(home), path).toBe(false);
  });

  test('stays within its size', () => {
    const bytes = (test: (path: string) => boolean) => packed.files.filter(({ path }) => test(path)).reduce((sum, { size }) => sum + size, 0);
    expect(bytes((path) => !path.startsWith('prebuilds/'))).toBeLessThan(SOURCES_UNPACKED);
    for (const { path, size } of packed.files.filter(({ path }) => path.startsWith('prebuilds/'))) expect(size, path).toBeLessThan(PREBUILD);
  });

  test('has two production dependencies', () => {
    expect(Object.keys(manifest['dependencies'] ?? {}).sort()).toEqual(['node-gyp-build', 'zod']);
    expect(manifest['optionalDependencies'] ?? {}).toEqual({});
  });

  test('shows no zod type', () => {
    const files = [...reachable('index.d.ts')];
    expect(files.length).toBeGreaterThan(8);
    expect(declarations).toEqual(expect.arrayContaining(files));
    for (const file of files) expect(readFileSync(`dist/${file}`, 'utf8'), file).not.toMatch(/\bzod\b/);
  });

  test('imports without opening the addon, and prints nothing', () => {
    const body = `
      const before = process.report.getReport().sharedObjects.length;
      const ternion = await import('ternion');
      const after = process.report.getReport().sharedObjects.filter((path) => path.endsWith('.node'));
      console.log(JSON.stringify([Object.keys(ternion).length > 5, before > 0, after]));`;
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', body], { encoding: 'utf8' });
    expect(JSON.parse(output)).toEqual([true, true, []]);
  });
});
