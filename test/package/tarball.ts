/**
 * The package as users get it: packed, and installed into an empty project.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, cpSync, mkdirSync, mkdtempSync, realpathSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';

export interface Packed {
  readonly size: number;
  readonly filename: string;
  readonly files: readonly { readonly path: string; readonly size: number }[];
}

const npmCli = realpathSync(execFileSync('sh', ['-c', 'command -v npm'], { encoding: 'utf8' }).trim());

/** Runs npm without asking anybody about anything. Returns what it printed on stdout. */
export function npm(args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = process.env): string {
  const result = spawnSync(process.execPath, [npmCli, args[0]!, '--no-audit', '--no-fund', '--prefer-offline', ...args.slice(1)], { cwd, env: withoutNpm(env), encoding: 'utf8', maxBuffer: 1 << 26 });
  if (result.status !== 0) throw new Error(`npm ${args.join(' ')} ended with ${result.status}:\n${result.stdout}\n${result.stderr}`);
  return result.stdout;
}

// npm test hands its own settings to what it runs, which are not those of somebody else's project.
function withoutNpm(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const kept = /^npm_config_(registry|cache|userconfig|nodedir|build_from_source)$/;
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('npm_') || kept.test(name)));
}

/** What `npm pack` takes of a folder. */
export function packList(folder: string): Packed {
  return (JSON.parse(npm(['pack', '--dry-run', '--json', '--ignore-scripts'], folder)) as [Packed])[0];
}

export function scratchFolder(name = 'ternion-package-'): { readonly path: string; [Symbol.dispose](): void } {
  const path = mkdtempSync(join(tmpdir(), name));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/**
 * Packs this checkout with `prebuilds` (target name to file) in place of its own. Returns the tarball's path.
 */
export function pack(into: string, prebuilds: Readonly<Record<string, string>>): string {
  const stage = join(into, 'stage');
  for (const { path } of packList('.').files) {
    if (path.startsWith('prebuilds/')) continue;
    mkdirSync(dirname(join(stage, path)), { recursive: true });
    copyFileSync(path, join(stage, path));
  }
  for (const [name, file] of Object.entries(prebuilds)) {
    mkdirSync(dirname(join(stage, 'prebuilds', name)), { recursive: true });
    copyFileSync(file, join(stage, 'prebuilds', name));
  }
  const { filename } = (JSON.parse(npm(['pack', '--json', '--ignore-scripts', '--pack-destination', into], stage)) as [Packed])[0];
  rmSync(stage, { recursive: true });
  return join(into, filename);
}

/** The addon of the build from source, without what only a debugger reads. */
export function strippedAddon(into: string): string {
  const file = join(into, 'ternion.node');
  execFileSync('strip', ['--strip-all', '-o', file, 'build/Release/ternion.node']);
  return file;
}

/** An empty project with the tarball installed. `args` are npm's. */
export function install(tarball: string, project: string, args: readonly string[] = [], env: NodeJS.ProcessEnv = process.env): string {
  mkdirSync(project, { recursive: true });
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'user-of-ternion', private: true, type: 'module' }));
  npm(['install', tarball, ...args], project, env);
  return join(project, 'node_modules', 'ternion');
}

/** An environment whose PATH has Node, npm and a shell, and no compiler, cmake or python. */
export function withoutCompiler(folder: string): NodeJS.ProcessEnv {
  const bin = join(folder, 'bin');
  mkdirSync(bin, { recursive: true });
  symlinkSync(process.execPath, join(bin, 'node'));
  symlinkSync('/bin/sh', join(bin, 'sh'));
  return { ...process.env, CC: undefined, CXX: undefined, PATH: bin };
}

/** Generates four tokens in a project that has ternion installed, by `runtime`. Returns the addon that was loaded and the text. */
export function generate(project: string, { runtime = [process.execPath], env = process.env, script = 'generate.mjs' }: { runtime?: readonly string[]; env?: NodeJS.ProcessEnv; script?: string } = {}): { readonly loaded: string[]; readonly text: string } {
  if (script === 'generate.mjs') writeFileSync(join(project, script), program);
  const result = spawnSync(runtime[0]!, [...runtime.slice(1), join(project, script)], { cwd: project, env: { ...env, TERNION_DEVICES: 'cpu', TERNION_PACK_CACHE: 'off' }, encoding: 'utf8' });
  if (result.status !== 0) throw new Error(`${basename(runtime[0]!)} ended with ${result.status ?? result.signal}:\n${result.stdout}\n${result.stderr}`);
  return JSON.parse(result.stdout) as { loaded: string[]; text: string };
}

/** What `generate` runs. */
export const program = `
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { loadModel } from 'ternion';
const embedded = () => join(dirname(createRequire(process.cwd() + '/package.json').resolve('ternion/package.json')), 'models', 'tern-5m-tq2_0.gguf');
const model = await loadModel(process.env.TERNION_TEST_MODEL ?? embedded(), { devices: ['cpu'] });
const session = await model.session();
const { text } = await session.complete('Once upon a time', { maxTokens: 4, temperature: 0 });
await model.dispose();
const loaded = process.report.getReport().sharedObjects.filter((path) => path.endsWith('.node'));
console.log(JSON.stringify({ loaded, text }));
`;

/** `ternion doctor --json` of an installed package. */
export function doctor(root: string, env: NodeJS.ProcessEnv = process.env): { readonly code: number | null; readonly out: string; readonly report: DoctorReport } {
  const result = spawnSync(process.execPath, [join(root, 'dist', 'cli', 'main.js'), 'doctor', '--json'], { env, encoding: 'utf8' });
  return { code: result.status, out: result.stdout, report: JSON.parse(result.stdout) as DoctorReport };
}

export interface DoctorReport {
  readonly loaded: string | null;
  readonly candidates: readonly { readonly path: string; readonly what: string; readonly verdict: string; readonly reason: string }[];
  readonly advice: readonly string[];
}

/** Electron's layout: an archive that holds no addon, and beside it what was unpacked. Both are folders here. Returns the archive. */
export function asarLayout(installed: string, into: string): string {
  const archive = join(into, 'app.asar');
  const unpacked = join(into, 'app.asar.unpacked', 'node_modules', 'ternion');
  cpSync(dirname(installed), join(archive, 'node_modules'), { recursive: true, filter: (path) => !/ternion\/(vendor|native|kernels|docs)$/.test(path) });
  mkdirSync(unpacked, { recursive: true });
  renameSync(join(archive, 'node_modules', 'ternion', 'prebuilds'), join(unpacked, 'prebuilds'));
  writeFileSync(join(archive, 'package.json'), '{"type":"module"}');
  chmodSync(join(archive, 'node_modules', 'ternion', 'dist', 'cli', 'main.js'), 0o755);
  return archive;
}
