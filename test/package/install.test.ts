import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { asarLayout, doctor, generate, install, pack, scratchFolder, strippedAddon, withoutCompiler } from './tarball.js';

// A package whose prebuilds are the build from source of this machine: how it installs and loads is the same.
const prebuild = `${process.platform}-${process.arch}/ternion.baseline.node`;
const scratch = scratchFolder();
const env = withoutCompiler(scratch.path);
const project = join(scratch.path, 'project');
let tarball = '';
let installed = '';

beforeAll(() => {
  tarball = pack(scratch.path, { [prebuild]: strippedAddon(scratch.path) });
  installed = install(tarball, project, [], env);
}, 180_000);
afterAll(() => scratch[Symbol.dispose]());

describe('the package in an empty project', () => {
  test('installs and generates on a machine without a compiler', () => {
    for (const tool of ['cc', 'c++', 'gcc', 'cmake', 'make', 'python3', 'git']) {
      expect((spawnSync(tool, ['--version'], { env }).error as NodeJS.ErrnoException).code, tool).toBe('ENOENT');
    }
    const { loaded, text } = generate(project, { env });
    expect(loaded).toEqual([join(installed, 'prebuilds', prebuild)]);
    expect(text.length).toBeGreaterThan(4);
  });

  test('works without install scripts, from a path with spaces and letters beyond ASCII', () => {
    const other = join(scratch.path, 'Ein Ordner mit Ümläuten und 模型');
    const there = install(tarball, other, ['--ignore-scripts'], env);
    expect(generate(other, { env }).loaded).toEqual([join(there, 'prebuilds', prebuild)]);
    rmSync(other, { recursive: true });
  });

  test('has a command line, whose doctor says what was loaded', () => {
    const { code, report } = doctor(installed, env);
    expect(code).toBe(0);
    expect(report.loaded).toBe(join(installed, 'prebuilds', prebuild));
    expect(report.candidates.map(({ what, verdict }) => `${what} ${verdict}`)).toContain('baseline loaded');
    expect(report.advice).toEqual([]);
    const run = spawnSync(join(project, 'node_modules', '.bin', 'ternion'), ['doctor'], { env, encoding: 'utf8' });
    expect(run.status).toBe(0);
    expect(run.stdout).toMatch(/baseline +\/.*ternion\.baseline\.node\n +loaded/);
  });

  test('loads what lies unpacked beside an Electron archive', () => {
    const app = join(scratch.path, 'electron');
    const archive = asarLayout(installed, app);
    const { loaded } = generate(archive, { env });
    expect(loaded).toEqual([join(app, 'app.asar.unpacked', 'node_modules', 'ternion', 'prebuilds', prebuild)]);
    rmSync(app, { recursive: true });
  });
});

describe('a package that does not load', () => {
  /** A copy whose prebuild is treated by `change`. */
  function broken(name: string, change: (file: string) => void): string {
    const folder = join(scratch.path, name, 'node_modules');
    cpSync(join(project, 'node_modules'), folder, { recursive: true, filter: (path) => name === 'unbuildable' || !/ternion\/(vendor|native|kernels|docs)$/.test(path) });
    change(join(folder, 'ternion', 'prebuilds', prebuild));
    return join(folder, 'ternion');
  }

  /** What an app sees. */
  function thrown(root: string): { code: string; message: string } {
    const body = `import { loadModel } from 'ternion';
      await loadModel('x.gguf').then(() => console.log('{}'), ({ code, message }) => console.log(JSON.stringify({ code, message })));`;
    writeFileSync(join(root, '..', '..', 'app.mjs'), body);
    return JSON.parse(spawnSync(process.execPath, [join(root, '..', '..', 'app.mjs')], { encoding: 'utf8' }).stdout) as { code: string; message: string };
  }

  test('because its prebuilds are gone', () => {
    const root = broken('gone', (file) => rmSync(join(file, '..', '..'), { recursive: true }));
    const { code, message } = thrown(root);
    expect(code).toBe('ERR_BINARY_NOT_FOUND');
    expect(message).toContain(`${join(root, 'prebuilds', prebuild)}: no such file`);
    expect(message).toContain('npm install --force ternion');
    const { code: exit, report } = doctor(root);
    expect(exit).toBe(1);
    expect(report.loaded).toBeNull();
    expect(report.advice.join('\n')).toContain('npm install --force ternion');
  });

  test('because they are of another machine', () => {
    const root = broken('foreign', (file) => {
      const bytes = readFileSync(file);
      bytes.writeUInt16LE(process.arch === 'x64' ? 183 : 62, 18); // ELF's e_machine
      writeFileSync(file, bytes);
    });
    const { code, message } = thrown(root);
    expect(code).toBe('ERR_BINARY_INCOMPATIBLE');
    expect(message).toMatch(/ternion\.baseline\.node: failed: it is for (arm64|x64), and this is/);
    expect(message).toContain('npm rebuild ternion --build-from-source');
    expect(doctor(root).code).toBe(1);
  });

  test.each([0, 64, 4096, -1])('because they were cut off (%s bytes left)', (bytes) => {
    const root = broken(`cut${bytes}`, (file) => writeFileSync(file, readFileSync(file).subarray(0, bytes)));
    const { code, message } = thrown(root);
    expect(code).toBe('ERR_BINARY_INCOMPATIBLE');
    expect(message).toMatch(/failed: it is (cut off: \d+ bytes of \d+|no addon for Linux)/);
  });

  test('fails at installing, too, where it cannot be built; the lacking tools are named', () => {
    const root = broken('unbuildable', (file) => {
      renameSync(file, `${file}.away`);
    });
    mkdirSync(join(root, 'build'), { recursive: true });
    const result = spawnSync(process.execPath, ['scripts/build.mjs', '--native'], { cwd: root, env, encoding: 'utf8' });
    expect(result.status).toBe(1);
    expect(result.stderr).toMatch(/^missing: cmake, make or ninja, a C\+\+20 compiler; /);
    expect(result.stderr).not.toMatch(/git|tar\b/); // the source is there
    const script = spawnSync(process.execPath, ['scripts/install.mjs'], { cwd: root, env, encoding: 'utf8' });
    expect(script.status).not.toBe(0);
    expect(script.stderr).toMatch(/ternion\.baseline\.node\n +no such file[^]*What to do:[^]*built from source now/);
  });
});
