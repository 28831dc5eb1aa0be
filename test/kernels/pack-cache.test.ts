import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync, writeSync, closeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { synthesize } from '../../dist/gguf/index.js';
import type { Shape } from '../../dist/gguf/index.js';
import { loadModel, onLog } from '../../dist/index.js';
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
    await load({ packCache: { folder, maxBytes: size + 2 ** 20 } }, model, () => until(() => existsSync(mine)));
    expect([existsSync(old), existsSync(older)]).toEqual([true, false]);
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

  test('options that make no sense are refused', async () => {
    for (const packCache of [{ folder: '' }, { maxBytes: -1 }, { path: 'x' }, 1] as never[]) {
      await expect(async () => loadModel(model, { packCache })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
    }
  });
});

function poke(path: string, at: number): void {
  const file = openSync(path, 'r+');
  const byte = readFileSync(path)[at] as number;
  writeSync(file, Uint8Array.of(byte ^ 0x55), 0, 1, at);
  closeSync(file);
}
