import { execFileSync, spawnSync } from 'node:child_process';
import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadModel, onLog } from '../../dist/index.js';
import type { CacheOptions, LogEntry, Model, Session } from '../../dist/index.js';
import { Folder, asked, load, messagesAt, modelPath, random, stateFiles, surely, totalBytes } from './tiers.js';
import type { Conversation } from './tiers.js';

let conversations: Conversation[];
const log: LogEntry[] = [];
const stop = onLog('warn', (entry) => log.push(entry));
beforeAll(async () => {
  conversations = await surely(6, 3);
});
afterAll(() => stop());

/** Asks every session for its turn `t`; each is what an undisturbed model says, and the messages are all there. */
async function askAll(sessions: readonly Session[], t: number): Promise<void> {
  for (const [c, session] of sessions.entries()) {
    const { system, turns } = conversations[c]!;
    const { text } = await session.chat(t === 0 ? messagesAt(conversations[c]!, 0) : turns[t]!.question, asked);
    expect(text).toBe(turns[t]!.answer);
    expect(session.messages).toEqual([...messagesAt({ system, turns }, t), { role: 'assistant', content: turns[t]!.answer }]);
  }
}

const open = (model: Model) => Promise.all(conversations.map(() => model.session()));
async function written(model: Model): Promise<void> {
  await expect.poll(async () => (await model.trimCache(), model.cache.disk.writing)).toBe(0);
}

/** Six sessions of which most are evicted to disk; then `damage`; then they go on. */
async function hurt(damage: (folder: string, model: Model) => void, cache: Partial<CacheOptions> = {}) {
  using folder = new Folder();
  await using model = await load({ diskDir: folder.path, diskBytes: 20_000_000, ...cache });
  const sessions = await open(model);
  await askAll(sessions, 0);
  await written(model);
  expect(model.cache.disk).toMatchObject({ errors: 0 });
  expect(stateFiles(folder.path).length).toBeGreaterThan(2);
  log.length = 0;
  damage(folder.path, model);
  await askAll(sessions, 1);
  await askAll(sessions, 2);
  await written(model);
  return { ...model.cache, left: stateFiles(folder.path).length };
}

describe('what happens to files of evicted sessions', () => {
  const each = (change: (path: string) => void) => (folder: string) => stateFiles(folder).forEach(({ path }) => change(path));
  const flip = (at: number) => (path: string) => {
    const bytes = readFileSync(path);
    const place = Math.floor(bytes.length * at);
    bytes[place] = bytes[place]! ^ 16;
    writeFileSync(path, bytes);
  };
  test.each<[string, RegExp, (path: string) => void]>([
    ['removed', /No such file/, (path) => rmSync(path)],
    ['truncated', /ternion-state/, (path) => truncateSync(path, 3000)],
    ['emptied', /ternion-state/, (path) => truncateSync(path, 0)],
    ['longer', /ternion-state/, (path) => appendFileSync(path, 'x')],
    ['a bit flipped in the head', /ternion-state/, flip(0)],
    ['a bit flipped in the state', /ternion-state/, flip(0.5)],
    ['the last bit flipped', /ternion-state/, flip(0.999999)],
    ['a folder in its place', /ternion-state/, (path) => (rmSync(path), mkdirSync(path))],
  ])('%s: prefilled again, the same text, an error counted and told', async (_, message, damage) => {
    const { disk, left } = await hurt(each(damage));
    expect(disk.errors).toBeGreaterThan(2);
    await expect.poll(() => log.length).toBeGreaterThan(2);
    expect(log.every(({ level, message: found }) => level === 'warn' && /will be computed again/.test(found) && message.test(found))).toBe(true);
    expect(left).toBeGreaterThan(0); // it goes on to evict
  });

  test('swapped with one another: each is known as another one', async () => {
    const { disk } = await hurt((folder) => {
      const [a, b] = stateFiles(folder);
      renameSync(a!.path, `${a!.path}.x`);
      renameSync(b!.path, a!.path);
      renameSync(`${a!.path}.x`, b!.path);
    });
    expect(disk.errors).toBe(2);
  });

  test('of any time: clocks do not matter', async () => {
    let year = 1975;
    const { disk } = await hurt(each((path) => utimesSync(path, new Date(`${(year += 20)}-01-01`), new Date(`${year}-01-01`))));
    expect(disk.errors).toBe(0);
  });

  test('the folder removed: nothing more is kept, and everything goes on', async () => {
    const { disk, left } = await hurt((folder) => rmSync(folder, { recursive: true }));
    expect(disk.errors).toBeGreaterThan(2);
    expect(disk).toMatchObject({ bytes: 0, entries: 0 });
    expect(left).toBe(0);
  });
});

describe('a disk that takes nothing', () => {
  const root = process.platform === 'linux' && process.getuid?.() === 0;
  const mounts = root && spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0;

  test.skipIf(!mounts)('full: what does not fit is computed again (needs root, for a small tmpfs)', async () => {
    using folder = new Folder();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder.path]);
    try {
      await using model = await load({ diskDir: folder.path, diskBytes: 20_000_000 });
      const sessions = await open(model);
      log.length = 0;
      for (const t of [0, 1, 2]) await askAll(sessions, t);
      await written(model);
      expect(model.cache.disk.errors).toBeGreaterThan(0);
      expect(log.some(({ message }) => message.includes('No space left'))).toBe(true);
      const files = stateFiles(folder.path);
      expect(files.every(({ named }) => named)).toBe(true); // nothing half-written stays
      expect(model.cache.disk).toMatchObject({ bytes: totalBytes(files), entries: files.length });
    } finally {
      execFileSync('umount', ['-l', folder.path]);
    }
  });

  test.skipIf(!mounts)('read-only: loading is refused with the path (needs root, for a mount)', async () => {
    using folder = new Folder();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'ro,size=1m', 'tmpfs', folder.path]);
    try {
      await expect(load({ diskDir: folder.path, diskBytes: 1_000_000 })).rejects.toMatchObject({ code: 'ERR_IO', details: { path: expect.stringContaining(folder.path) as unknown } });
    } finally {
      execFileSync('umount', ['-l', folder.path]);
    }
  });

  test('below a file: likewise', async () => {
    using folder = new Folder();
    const file = join(folder.path, 'file');
    writeFileSync(file, '');
    await expect(load({ diskDir: join(file, 'state'), diskBytes: 1_000_000 })).rejects.toMatchObject({ code: 'ERR_IO', details: { path: expect.stringContaining(file) as unknown } });
    await (await loadModel(modelPath, { devices: ['cpu'], context: 256, cache: { diskDir: join(file, 'state') } })).dispose(); // not asked for
  });
});

describe('budgets', () => {
  test('are kept at every moment of a random walk, as seen from outside', async () => {
    using folder = new Folder();
    const [diskBytes, ramBytes] = [1_500_000, 1_200_000];
    await using model = await load({ diskDir: folder.path, diskBytes, ramBytes });
    const next = random(5);
    const sessions = await open(model);
    const at = conversations.map(() => 0);
    let [most, mostRam] = [0, 0];
    const look = () => {
      most = Math.max(most, totalBytes(stateFiles(folder.path)));
      mostRam = Math.max(mostRam, model.cache.ram.bytes);
      expect(model.cache.disk.bytes).toBeLessThanOrEqual(diskBytes);
    };
    for (let step = 0; step < 150; ++step) {
      const c = Math.floor(next() * sessions.length);
      const asking = sessions[c]!.chat(messagesAt(conversations[c]!, at[c]!), asked);
      const looking = setInterval(look, 1);
      expect((await asking).text).toBe(conversations[c]!.turns[at[c]!]!.answer);
      clearInterval(looking);
      look();
      at[c] = (at[c]! + 1) % 3;
      if (at[c] === 0 || next() < 0.1) {
        await sessions[c]!.dispose();
        sessions[c] = await model.session();
        at[c] = 0;
      }
    }
    await written(model);
    look();
    const files = stateFiles(folder.path);
    expect(model.cache.disk).toMatchObject({ bytes: totalBytes(files), entries: files.length, errors: 0, budget: diskBytes });
    expect(most).toBeLessThanOrEqual(diskBytes);
    expect(most).toBeGreaterThan(diskBytes / 2);
    expect(mostRam).toBeLessThanOrEqual(ramBytes);
    expect(mostRam).toBeGreaterThan(ramBytes / 2);
    expect(model.cache.dropped).toBeGreaterThan(0);
  });

  test('smaller than one conversation: nothing is kept, and everything goes on', async () => {
    using folder = new Folder();
    await using model = await load({ diskDir: folder.path, diskBytes: 100_000 });
    const sessions = await open(model);
    for (const t of [0, 1, 2]) await askAll(sessions, t);
    expect(model.cache.evictions).toBeGreaterThan(2);
    expect(model.cache.dropped).toBeGreaterThan(2);
    expect(model.cache).toMatchObject({ restores: 0, disk: { bytes: 0, entries: 0, errors: 0 } });
    expect(stateFiles(folder.path)).toEqual([]);
  });

  test('smaller than before: what was used longest ago goes when the folder is opened', async () => {
    using folder = new Folder();
    const before = await load({ diskDir: folder.path, diskBytes: 20_000_000 });
    await askAll(await open(before), 0);
    await written(before);
    await before.dispose();
    const files = stateFiles(folder.path);
    const now = totalBytes(files) - 1;
    await using model = await load({ diskDir: folder.path, diskBytes: now });
    await expect.poll(() => stateFiles(folder.path).length).toBe(files.length - 1);
    expect(totalBytes(stateFiles(folder.path))).toBeLessThanOrEqual(now);
    expect(stateFiles(folder.path).some(({ path }) => path === files[0]!.path)).toBe(false);
    expect(model.cache.disk).toMatchObject({ entries: files.length - 1, bytes: totalBytes(stateFiles(folder.path)), errors: 0 });
  });
});
