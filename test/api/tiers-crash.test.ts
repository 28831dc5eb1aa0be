import { spawn } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { setTimeout as wait } from 'node:timers/promises';
import { Snapshot } from '../../dist/index.js';
import type { Model } from '../../dist/index.js';
import { killAndLook } from './kill-walk.js';
import { Folder, asked, headsOf, load, messagesAt, random, reachOf, stateFiles, surely, totalBytes, walk } from './tiers.js';

test('killed at 25 moments while sessions evict to disk: what is there is whole, and the next process goes on from it', async () => {
  await killAndLook(25, 1);
}, 120_000);

const slots = (folder: string) => new Set(stateFiles(folder).map(({ path }) => path.split('/').at(-2)));

test('two processes share a folder, each in its own slot, and a third goes on with what both left', async () => {
  using folder = new Folder();
  const conversations = await surely(8, 3);
  const seen = new Set<string | undefined>();
  const diskBytes = 20_000_000;
  const turns = [0, 0];
  const watch = setInterval(() => slots(folder.path).forEach((slot) => seen.add(slot)), 10);
  const both = [0, 1].map((which) =>
    walk({ diskDir: folder.path, diskBytes, conversations, at: conversations.map(() => 0), begin: which * 4, most: 44 }, (line) => {
      if (line.type === 'turn') {
        expect(line.text).toBe(conversations[line.conversation]!.turns[line.turn]!.answer);
        turns[which]!++;
      } else if (line.type === 'end') {
        expect(line.errors).toBe(0);
        expect(line.evictions).toBeGreaterThan(20);
      }
    }),
  );
  expect(await Promise.all(both)).toEqual([0, 0]);
  clearInterval(watch);
  expect(turns).toEqual([44, 44]);
  expect(seen).toEqual(new Set(['0', '1']));

  const left = stateFiles(folder.path);
  expect(slots(folder.path).size).toBe(2);
  expect(left.every(({ named }) => named)).toBe(true);
  for (const { path } of left) await (await Snapshot.load(path)).dispose();
  const heads = headsOf(left);
  await using third = await load({ diskDir: folder.path, diskBytes });
  expect(third.cache.disk).toMatchObject({ entries: left.length, bytes: totalBytes(left), errors: 0 });
  expect(slots(folder.path)).toEqual(new Set(['0']));
  let found = 0;
  for (const conversation of conversations) {
    const prompt = await third.tokenize(await third.render(messagesAt(conversation, 2)), { special: true, bos: true });
    const reach = reachOf(heads, prompt);
    await using session = await third.session();
    const { text, usage } = await session.chat(messagesAt(conversation, 2), asked);
    expect(text).toBe(conversation.turns[2]!.answer);
    expect(usage.cached).toBeGreaterThanOrEqual(reach);
    found += Number(reach > 0);
  }
  expect(found).toBeGreaterThan(4);
  expect(third.cache.restores).toBeGreaterThanOrEqual(found);
}, 120_000);

describe('the end while state is written and read', () => {
  /** Every session was evicted but the last few, and all of them go on at once. */
  async function busy(model: Model, conversations: Awaited<ReturnType<typeof surely>>) {
    const sessions = await Promise.all(conversations.map(() => model.session()));
    for (const [c, session] of sessions.entries()) await session.chat(messagesAt(conversations[c]!, 0), asked);
    const running = sessions.map((session, c) => session.chat(messagesAt(conversations[c]!, 1), asked));
    const ended = Promise.all(running.map((generation) => Promise.resolve(generation).then(({ text }) => text, (error: { code?: string }) => error.code)));
    return { sessions, ended };
  }

  test('of sessions: others go on, their files go, and every byte is given back', async () => {
    using folder = new Folder();
    const conversations = await surely(8, 2);
    const next = random(3);
    await using model = await load({ diskDir: folder.path, diskBytes: 20_000_000, ramBytes: 1_000_000 });
    for (let round = 0; round < 15; ++round) {
      const { sessions, ended } = await busy(model, conversations);
      await wait(next() * 60);
      await Promise.all(sessions.filter((_, c) => c % 2 === round % 2).map((session) => session.dispose()));
      for (const [c, text] of (await ended).entries()) {
        if (c % 2 === round % 2 && text === 'ERR_ABORTED') continue;
        expect(text).toBe(conversations[c]!.turns[1]!.answer);
      }
      await Promise.all(sessions.map((session) => session.dispose()));
      await model.trimCache();
    }
    while (model.cache.disk.writing > 0) await wait(5);
    await expect.poll(() => stateFiles(folder.path).length).toBe(0);
    await model.trimCache(); // publishes
    expect(model.cache.ram).toMatchObject({ bytes: 0, entries: 0 });
    expect(model.cache.disk).toMatchObject({ bytes: 0, entries: 0, errors: 0 });
  });

  test('of the model: requests end, and what is in the folder is whole', async () => {
    using folder = new Folder();
    const conversations = await surely(8, 2);
    const next = random(4);
    for (let round = 0; round < 15; ++round) {
      const model = await load({ diskDir: folder.path, diskBytes: 20_000_000 });
      const { ended } = await busy(model, conversations);
      await wait(next() * 60);
      await Promise.all([model.dispose(), model.dispose()]);
      for (const [c, text] of (await ended).entries()) expect([conversations[c]!.turns[1]!.answer, 'ERR_ABORTED']).toContain(text);
      const files = stateFiles(folder.path);
      expect(files.every(({ named }) => named)).toBe(true);
      for (const { path } of files) await (await Snapshot.load(path)).dispose();
    }
    expect(stateFiles(folder.path).length).toBeGreaterThan(0);
  });

  // Beside the disk, the engine, the text thread and JavaScript are at work.
  test.each(['exit', 'worker'])('of the process or thread (%s): at once, and what is in the folder is whole', async (how) => {
    using folder = new Folder();
    for (let round = 0; round < 8; ++round) {
      const child = spawn(process.execPath, ['test/api/tiers-end.mjs', how, folder.path, String(round * 12)], { stdio: ['ignore', 'pipe', 'pipe'] });
      let said = '';
      child.stdout.on('data', (data: Buffer) => (said += data.toString()));
      child.stderr.on('data', (data: Buffer) => (said += data.toString()));
      expect(await new Promise((resolve) => child.on('close', (code, signal) => resolve(code ?? signal)))).toBe(7);
      expect(said).toBe('evicted\n');
      const files = stateFiles(folder.path);
      expect(files.every(({ named }) => named)).toBe(true);
      for (const { path } of files) await (await Snapshot.load(path)).dispose();
    }
    expect(stateFiles(folder.path).length).toBeGreaterThan(0);
  });
});
