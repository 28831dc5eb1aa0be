import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync, writeSync, closeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { synthesize } from '../../dist/gguf/index.js';
import type { Shape } from '../../dist/gguf/index.js';
import { clearPacks, listPacks, loadModel, onLog, verifyPack } from '../../dist/index.js';
import type { LoadOptions } from '../../dist/index.js';

const home = mkdtempSync(join(tmpdir(), 'ternion-packs-'));
const model = join(home, 'model.gguf');
const folder = join(home, 'packs');
const shape: Shape = {
  architecture: 'llama', layers: 4, width: 1024, feedForward: 4096, heads: 16, kvHeads: 4, headSize: 64, vocabulary: 4096, context: 512, ropeBase: 1e4, epsilon: 1e-5, tied: false,
};
afterAll(() => rmSync(home, { recursive: true }));
beforeAll(() => synthesize(model, shape, { types: { matrices: 'tq2_0', embedding: 'q8_0' } }));
beforeEach(() => rmSync(folder, { recursive: true, force: true }));

const packs = () => (existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.pack')) : []);

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 200 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 25));
  expect(condition()).toBe(true);
}

/** What a load gives, with `work` done before the model goes. */
async function load(options: LoadOptions = {}, path = model, work: () => unknown = () => undefined) {
  const loaded = await loadModel(path, { devices: ['cpu'], context: 128, packCache: { folder }, ...options });
  const session = await loaded.session();
  const { text } = await session.complete('Once upon a time', { temperature: 0, maxTokens: 16, ignoreEos: true });
  await work();
  const { packsFromCache, packedBytes } = loaded.placement;
  await loaded.dispose();
  return { text, packsFromCache, packedBytes };
}

const loadAndStore = () => load({}, model, () => until(() => packs().length > 0));
const packPath = () => join(folder, packs()[0] as string);

describe('packed weights', () => {
  test('are kept, and a later load computes the same from them', async () => {
    const first = await loadAndStore();
    expect(first.packsFromCache).toBe(false);
    expect(first.packedBytes).toBeGreaterThan(16 * 2 ** 20);
    expect(packs()).toHaveLength(1);
    const { mtimeMs } = statSync(packPath());
    const second = await load();
    expect(second).toEqual({ ...first, packsFromCache: true });
    expect(statSync(packPath()).mtimeMs).toBeGreaterThanOrEqual(mtimeMs);
    expect(packs()).toHaveLength(1);
  });

  test.each<[string, (path: string) => void]>([
    ['cut off', (path) => truncateSync(path, statSync(path).size - 4096)],
    ['cut off in its table', (path) => truncateSync(path, 300)],
    ['empty', (path) => truncateSync(path, 0)],
    ['damaged in its head', (path) => poke(path, 17)],
    ['damaged in its table', (path) => poke(path, 200)],
    ['longer than it says', (path) => writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.alloc(10)]))],
  ])('that are %s are ignored and made again', async (_, damage) => {
    const first = await loadAndStore();
    const whole = readFileSync(packPath());
    damage(packPath());
    const again = await load({}, model, () => until(() => readFileSync(packPath()).equals(whole)));
    expect(again).toEqual(first);
    expect((await load()).packsFromCache).toBe(true);
  });

  test('of another model under this one’s name are ignored', async () => {
    const other = join(home, 'other.gguf');
    await synthesize(other, shape, { types: { matrices: 'tq2_0', embedding: 'q8_0' }, seed: 2 });
    const first = await loadAndStore();
    const name = packPath();
    await load({}, other, () => until(() => packs().length === 2));
    const others = packs().map((each) => join(folder, each)).find((each) => each !== name) as string;
    copyFileSync(others, name);
    expect(await load()).toEqual({ ...first, packsFromCache: false });
  });

  test('do not outlive a change of the model, even of one weight at the end of a tensor', async () => {
    await loadAndStore();
    const changed = join(home, 'changed.gguf');
    copyFileSync(model, changed);
    expect((await load({}, changed)).packsFromCache).toBe(true); // another name is the same model
    poke(changed, statSync(changed).size - 40);
    expect((await load({}, changed)).packsFromCache).toBe(false);
  });

  test.skipIf(process.platform === 'win32').each<[string, (path: string) => void]>([
    ['that everybody may write to', (path) => chmodSync(path, 0o666)],
    ...(process.getuid?.() === 0 ? [['of another user', (path: string) => chownSync(path, 54321, 54321)] as [string, (path: string) => void]] : []),
  ])('%s are not believed, but replaced', async (_, change) => {
    const first = await loadAndStore();
    change(packPath());
    const lines: string[] = [];
    const stop = onLog('warn', ({ message }) => lines.push(message));
    const again = await load({}, model, () => until(() => (statSync(packPath()).mode & 0o777) === 0o600 && statSync(packPath()).uid === process.getuid!()));
    stop();
    expect(again).toEqual(first);
    expect(lines.join()).toMatch(/another user may have written it/);
    expect((await load()).packsFromCache).toBe(true);
  });

  test('are neither read nor written where the cache is off', async () => {
    await load({ packCache: false });
    expect(existsSync(folder)).toBe(false);
    await loadAndStore();
    expect((await load({ packCache: false })).packsFromCache).toBe(false);
  });

  test('make room for new ones, those used longest ago first', async () => {
    await loadAndStore();
    const { size } = statSync(packPath());
    const old = join(folder, 'a'.repeat(32) + '-avx2-1.pack');
    const older = join(folder, 'b'.repeat(32) + '-avx2-1.pack');
    const mine = packPath();
    rmSync(mine);
    for (const [path, age] of [[old, 1000], [older, 2000]] as const) {
      writeFileSync(path, Buffer.alloc(2 ** 20));
      utimesSync(path, Date.now() / 1000 - age, Date.now() / 1000 - age);
    }
    const begun = join(folder, 'c'.repeat(32) + '-avx2-1.pack.7-0.partial');
    const others = ['download.gguf.partial', 'pack-1234.pack', 'd'.repeat(32) + '.pack.old'].map((name) => join(folder, name));
    for (const path of [begun, ...others]) {
      writeFileSync(path, Buffer.alloc(2 ** 20));
      utimesSync(path, 1e9, 1e9);
    }
    await load({ packCache: { folder, maxBytes: size + 2 ** 20 } }, model, () => until(() => existsSync(mine)));
    expect([existsSync(old), existsSync(older), existsSync(begun), ...others.map((path) => existsSync(path))]).toEqual([true, false, false, true, true, true]);
    rmSync(mine);
    await load({ packCache: { folder, maxBytes: size - 1 } });
    expect([existsSync(mine), existsSync(old)]).toEqual([false, true]); // too large: nothing goes for it
  });

  test('that cannot be written are no reason not to load', async () => {
    const lines: string[] = [];
    const stop = onLog('warn', ({ message }) => lines.push(message));
    writeFileSync(folder, 'a file where the folder should be');
    const { packsFromCache } = await load({}, model, () => new Promise((resolve) => setTimeout(resolve, 300)));
    expect(packsFromCache).toBe(false);
    stop();
    expect(lines.join('\n')).toContain('packed weights are not kept');
    rmSync(folder);
  });

  // As root: mounts a file system of 8 MB.
  test.skipIf(process.getuid?.() !== 0)('that do not fit onto the disk are no reason either [needs hardware: root, to mount one]', async () => {
    mkdirSync(folder);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', folder]);
    try {
      expect((await load({}, model, () => new Promise((resolve) => setTimeout(resolve, 300)))).packsFromCache).toBe(false);
      expect(readdirSync(folder).filter((name) => name.includes('.pack'))).toEqual([]);
    } finally {
      execFileSync('umount', [folder]);
    }
  });

  test('are dropped when the model goes before they are written', async () => {
    for (let i = 0; i < 5; i++) {
      const loaded = await loadModel(model, { devices: ['cpu'], context: 128, packCache: { folder } });
      await loaded.dispose();
      if (existsSync(folder)) expect(readdirSync(folder).filter((name) => name.endsWith('.partial'))).toEqual([]);
    }
  });

  test('are for one set of kernels', async () => {
    await loadAndStore();
    process.env['TERNION_KERNEL'] = 'scalar';
    try {
      expect((await load({}, model, () => until(() => packs().length === 2))).packsFromCache).toBe(false);
    } finally {
      delete process.env['TERNION_KERNEL'];
    }
  });

  test('with another byte among the weights are taken as they are, unless the load verifies: then they are made again', async () => {
    const first = await loadAndStore();
    expect(await load({ packCache: { folder, verify: true } })).toEqual({ ...first, packsFromCache: true });
    const whole = readFileSync(packPath());
    poke(packPath(), whole.length - 5000);
    expect((await load()).packsFromCache).toBe(true);
    const { ino } = statSync(packPath());
    const lines: string[] = [];
    const stop = onLog('warn', ({ message }) => lines.push(message));
    const again = await load({ packCache: { folder, verify: true } }, model, () => until(() => statSync(packPath()).ino !== ino));
    stop();
    expect(again).toEqual(first);
    expect(lines.join('\n')).toContain('not those that were written');
    expect(readFileSync(packPath()).equals(whole)).toBe(true);
    expect((await load({ packCache: { folder, verify: true } })).packsFromCache).toBe(true);
  });

  test('options that make no sense are refused', async () => {
    for (const packCache of [{ folder: '' }, { maxBytes: -1 }, { path: 'x' }, { verify: 1 }, 1] as never[]) {
      await expect(async () => loadModel(model, { packCache })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
    }
  });
});

describe('verifyPack', () => {
  // Offsets are those of the head's fields in pack_cache.cc; 200 lies in the table.
  test.each<[string, (path: string) => void, string, RegExp]>([
    ['a whole pack', () => undefined, 'whole', /^$/],
    ['its first weight', (path) => poke(path, dataOffset(path)), 'damaged', /weights/],
    ['its last weight', (path) => poke(path, statSync(path).size - 1), 'damaged', /weights/],
    ['a byte of the table', (path) => poke(path, 200), 'damaged', /head and table/],
    ['the model in its head', (path) => poke(path, 17), 'damaged', /head and table/],
    ['its magic number', (path) => poke(path, 0), 'damaged', /no pack/],
    ['its version', (path) => poke(path, 8), 'stale', /another version/],
    ['its end', (path) => truncateSync(path, statSync(path).size - 1), 'damaged', /longer or shorter/],
    ['all but a part of its table', (path) => truncateSync(path, 300), 'damaged', /cut off/],
    ['everything', (path) => truncateSync(path, 0), 'damaged', /no pack/],
  ])('%s changed', async (_, change, state, problem) => {
    await loadAndStore();
    change(packPath());
    const progress: number[] = [];
    const found = await verifyPack(packPath(), { onProgress: (fraction) => progress.push(fraction) });
    expect(found).toEqual({ state, problem: expect.stringMatching(problem) as string });
    expect(progress.every((fraction) => fraction > 0 && fraction <= 1)).toBe(true);
  });

  test('a pack under another’s name', async () => {
    await loadAndStore();
    const name = join(folder, `${'a'.repeat(32)}-scalar-1.pack`);
    copyFileSync(packPath(), name);
    expect(await verifyPack(name)).toMatchObject({ state: 'damaged', problem: expect.stringContaining('another model') as string });
  });

  test('what cannot be read, an abort, wrong arguments', async () => {
    await expect(verifyPack(join(home, 'none.pack'))).rejects.toMatchObject({ code: 'ERR_IO' });
    await expect(verifyPack(home)).rejects.toMatchObject({ code: 'ERR_IO' });
    await loadAndStore();
    await expect(verifyPack(packPath(), { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    const codes: unknown[] = [];
    while (codes.length < 10 && !codes.includes('ERR_ABORTED')) { // a busy machine may let the reader end before this thread goes on
      const abort = new AbortController();
      const running = verifyPack(packPath(), { signal: abort.signal });
      abort.abort(); // at once: at most a chunk has been read
      codes.push(await running.then(() => 'read', ({ code }: { code: string }) => code));
    }
    expect(codes).toContain('ERR_ABORTED');
    expect(() => verifyPack(7 as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG' }));
    expect(() => verifyPack('x', { sgnal: 1 } as never)).toThrow(/did you mean "signal"/);
  });
});

describe('the packs of a folder', () => {
  test('are listed, those used last first, and nothing else', async () => {
    expect(await listPacks({ folder })).toEqual([]);
    await loadAndStore();
    const mine = packPath();
    const old = join(folder, `${'a'.repeat(32)}-avx512-vbmi2-1.pack`);
    writeFileSync(old, 'short');
    utimesSync(old, 1000, 1000);
    writeFileSync(join(folder, 'notes.pack'), 'no pack');
    mkdirSync(join(folder, `${'b'.repeat(32)}-avx2-1.pack`));
    const listed = await listPacks({ folder });
    const { size, mtimeMs } = statSync(mine);
    expect(listed).toEqual([
      { path: mine, fingerprint: expect.stringMatching(/^[0-9a-f]{32}$/) as string, kernels: expect.any(String) as string, bytes: size, lastUsedMs: Math.round(mtimeMs) },
      { path: old, fingerprint: 'a'.repeat(32), kernels: 'avx512-vbmi2', bytes: 5, lastUsedMs: 1_000_000 },
    ]);
    const loaded = await loadModel(model, { devices: ['cpu'], context: 128, packCache: { folder } });
    expect(listed[0]?.kernels).toBe(loaded.placement.kernels);
    // A model that has one mapped keeps working when it is gone.
    expect(await clearPacks({ folder })).toHaveLength(2);
    expect(packs().sort()).toEqual([`${'b'.repeat(32)}-avx2-1.pack`, 'notes.pack']);
    const { text } = await (await loaded.session()).complete('Once upon a time', { temperature: 0, maxTokens: 16, ignoreEos: true });
    await loaded.dispose();
    expect(text).toBe((await load({ packCache: false })).text);
  });

  test('no folder but a file, wrong arguments', async () => {
    writeFileSync(folder, '');
    await expect(listPacks({ folder })).rejects.toMatchObject({ code: 'ERR_IO' });
    await expect(clearPacks({ folder })).rejects.toMatchObject({ code: 'ERR_IO' });
    rmSync(folder);
    expect(() => listPacks({ folder: '' })).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG' }));
    expect(() => clearPacks({ directory: 'x' } as never)).toThrow(/it takes folder/);
  });
});

describe('ternion packs', () => {
  const run = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, ['dist/cli/main.js', 'packs', ...args], { encoding: 'utf8', env: { ...process.env, TERNION_PACK_CACHE: folder } });
    return { status, stdout, stderr };
  };

  test('lists, verifies and clears', async () => {
    expect(run()).toEqual({ status: 0, stdout: `0 packs, 0.0 MiB, in ${folder}\n`, stderr: '' });
    await loadAndStore();
    const path = packPath();
    expect(run().stdout).toContain(path);
    expect(JSON.parse(run('--json').stdout)).toEqual({ folder, packs: await listPacks({ folder }) });
    expect(run('--verify')).toMatchObject({ status: 0, stdout: expect.stringContaining('  whole  ') as string });
    poke(path, statSync(path).size - 1);
    expect(run('--verify')).toMatchObject({ status: 1, stdout: expect.stringContaining('damaged (the weights') as string });
    const json = run('--verify', '--json');
    expect(json.status).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject({ packs: [{ path, state: 'damaged', problem: expect.stringContaining('weights') as string }] });
    expect(run('--clear', '--folder', home)).toMatchObject({ status: 0, stdout: expect.stringContaining('0 packs removed') as string });
    expect(JSON.parse(run('--clear', '--json').stdout)).toMatchObject({ packs: [{ path }] });
    expect(packs()).toEqual([]);
  });

  test('a stale pack is no failure', async () => {
    await loadAndStore();
    poke(packPath(), 8);
    expect(run('--verify')).toMatchObject({ status: 0, stdout: expect.stringContaining('stale (of another version') as string });
  });

  test('wrong usage is 2', () => {
    for (const args of [['--verify', '--clear'], ['somewhere'], ['--folder', '']]) expect(run(...args).status, args.join(' ')).toBe(2);
  });
});

const dataOffset = (path: string): number => Number(readFileSync(path).readBigUInt64LE(40));

function poke(path: string, at: number): void {
  const file = openSync(path, 'r+');
  const byte = readFileSync(path)[at] as number;
  writeSync(file, Uint8Array.of(byte ^ 0x55), 0, 1, at);
  closeSync(file);
}
