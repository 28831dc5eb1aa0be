// Poor machines: each case is a process of its own with less than it would like to have.
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { inChild } from './child.js';
import type { Confinement } from './child.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-machines-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Outcome {
  readonly said: string;
  readonly text?: string;
  readonly generated?: string;
  readonly devices?: readonly string[];
  readonly unavailable?: readonly { readonly backend: string; readonly reason: string }[];
}
const run = (what: string, confinement: Confinement = {}, ...args: string[]) =>
  inChild<Outcome>(resolve('test/hostile/machine.mjs'), [what, ...args], { timeoutMs: 90_000, ...confinement });

const tool = (command: string, ...args: string[]) => spawnSync(command, args).status === 0;
const linux = process.platform === 'linux';
const mounts = linux && tool('unshare', '-m', 'mount', '-t', 'tmpfs', 'none', folder);
const mounted = (...commands: string[]) => `unshare -m sh -c '${commands.join(' && ')} && exec "$0" "$@"'`;

describe.skipIf(!linux)('a process', () => {
  test('on one CPU', async () => {
    expect(await run('generate', { prefix: 'taskset -c 0' })).toMatchObject({ said: 'ok' });
  });

  test.each<[string, Record<string, string | undefined>]>([
    ['none', { HOME: undefined }],
    ['none that is there', { HOME: '/nowhere/at/all' }],
    ['an empty one', { HOME: '' }],
    ['caches that are nowhere', { XDG_CACHE_HOME: '/proc/nowhere' }],
    ['caches that are a file', { XDG_CACHE_HOME: '/etc/passwd' }],
    ['relative caches', { XDG_CACHE_HOME: 'relative' }],
  ])('whose home is %s', async (_, env) => {
    expect(await run('generate', { env, cwd: folder })).toMatchObject({ said: 'ok' });
    if (env['XDG_CACHE_HOME'] !== undefined) expect(await run('measure', { env, cwd: folder })).toMatchObject({ said: 'ok' });
    expect(existsSync(join(folder, 'relative')) || existsSync(join(folder, '.cache'))).toBe(false);
  });

  test('without a user, a home or anything to write to [needs hardware: root]', async (context) => {
    const prefix = 'setpriv --reuid 54321 --regid 54321 --clear-groups';
    if (!tool('setpriv', '--reuid', '54321', '--clear-groups', '--regid', '54321', process.execPath, '-e', '') || !tool('setpriv', '--reuid', '54321', '--regid', '54321', '--clear-groups', 'ls', resolve('dist'))) context.skip();
    expect(await run('generate', { env: { HOME: undefined }, prefix })).toMatchObject({ said: 'ok' });
    expect((await run('evict', { env: { HOME: undefined }, prefix })).said).toMatch(/^ERR_INVALID_ARG .*diskDir/);
  });

  test.skipIf(!mounts)('in a checkout and a current folder that are read-only [needs hardware: root, to mount]', async () => {
    const prefix = mounted(`mount --bind ${process.cwd()} ${process.cwd()}`, `mount -o remount,bind,ro ${process.cwd()}`, `cd ${process.cwd()}`);
    expect(await run('generate', { prefix, env: { HOME: process.cwd() } })).toMatchObject({ said: 'ok' });
  });

  // Taken away when all modules are read, of which Node has dozens open.
  test.each([0, 2, 5, 20])('with %i more files than are open', async (more) => {
    const { said } = await run('few-files', {}, String(more));
    expect(said).toMatch(/^(ok|ERR_(IO|OUT_OF_MEMORY|MODEL_NOT_FOUND|MODEL_INVALID|BUSY|BINARY_INCOMPATIBLE) .*)$/s);
    if (more === 20) expect(said).toBe('ok');
  });

  // Node itself takes about a gigabyte of address space; each step ends somewhere else: at the weights, the cells, a step, a prompt.
  const starts = (megabytes: number) => spawnSync('bash', ['-c', `ulimit -v ${megabytes * 1024} && exec "$0" -e 0`, process.execPath]).status === 0;
  test.each([1100, 1150, 1200, 1300, 1400, 1600, 2000].filter(starts))('with %i MB of address space is refused or served', async (megabytes) => {
    const found = await run('address-space', { limits: `-v ${megabytes * 1024}`, env: { NODE_OPTIONS: '--max-old-space-size=64' } });
    expect(found.said).toMatch(/^(ok|ERR_OUT_OF_MEMORY .*|ERR_BINARY_INCOMPATIBLE .*)$/s);
  });
});

describe.skipIf(!mounts)('a full disk [needs hardware: root, to mount]', () => {
  const place = join(folder, 'full');
  mkdirSync(place);
  const prefix = mounted(`mount -t tmpfs -o size=200k none ${place}`);

  test('under a snapshot: refused by name, and nothing is left', async () => {
    const { said, generated } = await run('snapshot', { prefix }, place);
    expect(said).toMatch(/^ERR_IO .*No space left/);
    expect(generated).toBe('left: ');
  });

  test('under the caches: nothing is lost', async () => {
    expect(await run('evict', { prefix }, place)).toMatchObject({ said: 'ok' });
    expect(await run('measure', { prefix, env: { XDG_CACHE_HOME: place } })).toMatchObject({ said: 'ok' });
  });
});

describe.skipIf(!linux)('Vulkan', () => {
  const driver = (name: string, source: string) => {
    const file = join(folder, `${name}.cc`);
    writeFileSync(file, source);
    execFileSync('g++', ['-shared', '-fPIC', '-o', join(folder, `${name}.so`), file, '-ldl']);
    writeFileSync(join(folder, `${name}.json`), JSON.stringify({ file_format_version: '1.0.0', ICD: { library_path: join(folder, `${name}.so`), api_version: '1.3.0' } }));
    return join(folder, `${name}.json`);
  };
  // Mesa's driver for the CPU, but for one function.
  const forwarding = `
      #include <cstring>
      #include <dlfcn.h>
      static void * instead(const char * name);
      static void * const real = dlopen("libvulkan_lvp.so", RTLD_NOW);
      typedef void * (*Get)(void *, const char *);
      typedef int (*Negotiate)(unsigned *);
      extern "C" void * vk_icdGetInstanceProcAddr(void * instance, const char * name) {
        void * const ours = instead(name);
        return ours ? ours : ((Get) dlsym(real, "vk_icdGetInstanceProcAddr"))(instance, name);
      }
      extern "C" int vk_icdNegotiateLoaderICDInterfaceVersion(unsigned * version) {
        *version = *version > 3 ? 3 : *version; // nothing but what stands here is asked for then
        return ((Negotiate) dlsym(real, "vk_icdNegotiateLoaderICDInterfaceVersion"))(version);
      }`;
  const drivers = (path: string) => ({ VK_ICD_FILENAMES: path, VK_DRIVER_FILES: path });
  const without = /^ERR_DEVICE_NOT_FOUND /;

  test.each<[string, () => Confinement]>([
    ['whose driver’s file is missing', () => ({ env: drivers('/nowhere.json') })],
    ['whose driver’s file is empty', () => (writeFileSync(join(folder, 'empty.json'), ''), { env: drivers(join(folder, 'empty.json')) })],
    ['whose driver is no library', () => {
      writeFileSync(join(folder, 'text.json'), JSON.stringify({ file_format_version: '1.0.0', ICD: { library_path: join(folder, 'text.json'), api_version: '1.3.0' } }));
      return { env: drivers(join(folder, 'text.json')) };
    }],
    ['whose driver makes no instance', () => ({ env: drivers(driver('instance', `
      ${forwarding}
      static int refuse(const void *, const void *, void **) { return -9; }
      static void * instead(const char * name) { return std::strcmp(name, "vkCreateInstance") == 0 ? (void *) refuse : nullptr; }`)) })],
    ['whose driver makes no device', () => ({ env: drivers(driver('device', `
      ${forwarding}
      static int refuse(void *, const void *, const void *, void **) { return -3; }
      static void * instead(const char * name) { return std::strcmp(name, "vkCreateDevice") == 0 ? (void *) refuse : nullptr; }`)) })],
    ['whose loader is no library', () => {
      mkdirSync(join(folder, 'loader'), { recursive: true });
      writeFileSync(join(folder, 'loader/libvulkan.so.1'), 'nothing');
      return { env: { LD_LIBRARY_PATH: join(folder, 'loader') } };
    }],
  ])('%s: the CPU works, and the reason is told', async (_, confinement) => {
    const found = await run('devices', confinement());
    expect(found.devices).toEqual(['cpu']);
    expect(found.unavailable).toEqual([expect.objectContaining({ backend: expect.stringMatching(/vulkan/i) as string, reason: expect.stringMatching(/\w{3}/) as string })]);
    expect(await run('generate', confinement())).toMatchObject({ said: 'ok' });
    const { said } = await run('gpu', confinement());
    expect(said).toMatch(without);
    expect(said).toContain(found.unavailable![0]!.reason);
  });
});

describe.skipIf(!linux)('what ternion keeps', () => {
  const mode = (path: string) => statSync(path).mode & 0o777;
  const below = (path: string): string[] => readdirSync(path, { recursive: true, encoding: 'utf8' }).map((name) => join(path, name));

  test('is for its user alone, whatever the umask', async () => {
    const home = join(folder, 'private');
    const prefix = `sh -c 'umask 0 && exec "$0" "$@"'`;
    expect(await run('measure', { prefix, env: { XDG_CACHE_HOME: home } })).toMatchObject({ said: 'ok' });
    expect(await run('evict', { prefix }, join(home, 'state'))).toMatchObject({ said: 'ok' });
    expect(await run('snapshot', { prefix }, join(home))).toMatchObject({ said: 'ok' });
    const made = [home, ...below(home)];
    expect(made.length).toBeGreaterThan(5);
    for (const path of made) expect([path, mode(path)]).toEqual([path, lstatSync(path).isDirectory() ? 0o700 : 0o600]);
  });

  test('is not kept where everybody may replace it', async () => {
    const open = join(folder, 'open');
    mkdirSync(open);
    chmodSync(open, 0o777);
    expect((await run('evict', {}, open, 'exact')).said).toMatch(/^ERR_IO .*everybody may write to .*chmod o-w, or \+t/);
    chmodSync(open, 0o1777);
    expect((await run('evict', {}, open, 'exact')).said).toBe('ok');
  });

  test('is believed only where nobody else can have written it', async () => {
    const home = join(folder, 'believed');
    const env = { XDG_CACHE_HOME: home };
    await run('measure', { env });
    for (const path of below(home).filter((name) => name.endsWith('.json'))) {
      const { key } = JSON.parse(readFileSync(path, 'utf8')) as { key: unknown };
      writeFileSync(path, JSON.stringify({ key, value: 12345 }));
    }
    expect(await run('known', { env })).toMatchObject({ said: 'ok', bytesPerSecond: 12345 });
    for (const path of below(home).filter((name) => name.endsWith('.json'))) chmodSync(path, 0o666);
    expect(await run('known', { env })).toEqual({ said: 'ok' });
  });

  test('is not written through a link, and not read from a pipe', async () => {
    const home = join(folder, 'links');
    expect(await run('measure', { env: { XDG_CACHE_HOME: home } })).toMatchObject({ said: 'ok' });
    const victim = join(folder, 'victim');
    writeFileSync(victim, 'mine');
    const files = below(home).filter((path) => lstatSync(path).isFile());
    expect(files.length).toBeGreaterThan(0);
    for (const file of files) {
      rmSync(file);
      execFileSync('mkfifo', [file]);
    }
    expect(await run('measure', { env: { XDG_CACHE_HOME: home }, timeoutMs: 30_000 })).toMatchObject({ said: 'ok' });
    for (const file of files) {
      rmSync(file, { force: true });
      symlinkSync(victim, file);
    }
    expect(await run('measure', { env: { XDG_CACHE_HOME: home } })).toMatchObject({ said: 'ok' });
    expect(readFileSync(victim, 'utf8')).toBe('mine');
  });
});
