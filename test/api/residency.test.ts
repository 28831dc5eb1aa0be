import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { CacheOptions, LoadOptions, Model, Session } from '../../dist/index.js';
import { facts, failure, greedy, hybrid, open, said, system, talk } from './conversation.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-'));
afterAll(() => rmSync(folder, { recursive: true }));

const names = ['Rosa', 'Nina', 'Oscar', 'Daisy', 'Felix', 'Maya', 'Theo', 'Wren', 'Basil', 'Ivy'];
const towns = ['Athens', 'Paris', 'Tokyo', 'Delhi', 'Toronto', 'Bergen'];
/** Forty conversations that nobody could mistake for one another, each with so much of its own that its state is worth being read. */
const people = Array.from({ length: 40 }, (_, i) => ({
  told: `Please remember: ${names[i % 10]} lives in ${towns[i % 6]}. The yellow card opens box ${i + 11}. The red coin opens box ${60 - i}. The blue key opens box ${i + 101}.`,
  questions: ['Which box does the yellow card open?', `Where does ${names[i % 10]} live?`],
  answers: [`The yellow card opens box ${i + 11}.`, `${names[i % 10]} lives in ${towns[i % 6]}.`],
}));

async function told(model: Model): Promise<Session[]> {
  const sessions = await Promise.all(people.map(() => model.session({ system, sampling: greedy })));
  await Promise.all(people.map((person, i) => sessions[i]!.chat(person.told)));
  return sessions;
}

const budgets: [string, CacheOptions][] = [
  ['all in memory', { ramBytes: 2 ** 30 }],
  ['nothing: all are prefilled again', { ramBytes: 0 }],
  ['little memory, then disk', { ramBytes: 1_000_000, diskBytes: 2 ** 30, diskDir: join(folder, 'state') }],
  ['little of both: what was used longest ago is dropped', { ramBytes: 1_000_000, diskBytes: 3_000_000, diskDir: join(folder, 'little') }],
];

describe('forty conversations on 300 cells', () => {
  test.each(budgets)('go on exactly: %s', async (_, cache) => {
    const model = await open({ context: 200, sequences: 2, spareSequences: 2, kvTokens: 300, cache });
    const within = () => {
      const { ram, disk, cells, sequences } = model.cache;
      expect([ram.bytes <= cache.ramBytes!, disk.bytes <= (cache.diskBytes ?? 0), cells.used <= 300, sequences.used <= 4, disk.errors]).toEqual([true, true, true, true, 0]);
    };
    const sessions = await told(model);
    expect(model.placement).toMatchObject({ kvTokens: 300, sequences: 2, sequenceIds: 4 });
    expect(model.cache.evictions).toBeGreaterThanOrEqual(36);
    const before = model.stats().prefillTokens;
    let cached = 0;
    for (const turn of [0, 1]) {
      await Promise.all(
        people.map(async (person, i) => {
          const { text, usage } = await sessions[i]!.chat(person.questions[turn]!);
          expect(text).toBe(person.answers[turn]);
          cached += usage.cached;
          within();
        }),
      );
    }
    const { restores, ram, disk, dropped, sessions: counts, evictions } = model.cache;
    expect(counts).toMatchObject({ open: 40, pinned: 0 });
    expect(evictions).toBeGreaterThan(100);
    const prefilled = (model.stats().prefillTokens - before) / (2 * people.length);
    if (cache.ramBytes === 0) expect([restores, ram.bytes, prefilled > 60]).toEqual([0, 0, true]);
    if (cache.ramBytes === 2 ** 30) {
      expect(restores).toBeGreaterThan(70);
      expect(prefilled).toBeLessThan(35);
      expect(cached).toBeGreaterThan(2 * people.length * 40);
    }
    if (cache.diskBytes === 2 ** 30) expect([restores > 70, dropped, disk.entries > 40]).toEqual([true, 0, true]);
    if (cache.diskBytes === 3_000_000) expect(dropped).toBeGreaterThan(50);
    await Promise.all(sessions.map((session) => session.dispose()));
    await model.trimCache();
    await expect.poll(() => model.cache.disk.writing).toBe(0); // what was on its way when its session went is removed behind that
    expect(model.cache).toMatchObject({ cells: { used: 0 }, sequences: { used: 0 }, ram: { bytes: 0, entries: 0 }, disk: { entries: 0 } });
    await model.dispose();
  });

  test('a recurrent model: what comes back is what was put away', async () => {
    const [small, roomy] = [await open({ context: 200, sequences: 2, spareSequences: 0, kvTokens: 220 }, hybrid), await open({ context: 200, sequences: 8 }, hybrid)];
    const said = await Promise.all(
      [small, roomy].map(async (model) => {
        const sessions = await Promise.all(people.slice(0, 8).map(() => model.session({ sampling: { ...greedy } })));
        const texts = [];
        for (const ask of ['told', 0, 1] as const) {
          for (const [i, session] of sessions.entries()) texts.push((await session.chat(ask === 'told' ? people[i]!.told : people[i]!.questions[ask]!, { maxTokens: 4 })).text);
        }
        return texts;
      }),
    );
    expect(said[0]).toEqual(said[1]);
    expect(small.cache.restores).toBeGreaterThan(8);
    expect(roomy.cache).toMatchObject({ evictions: 0, restores: 0 });
    await Promise.all([small.dispose(), roomy.dispose()]);
  });
});

describe('a pool that is too small', () => {
  test('because pinned sessions fill it: the error has figures, and goes with them', async () => {
    const model = await open({ context: 256, kvTokens: 256, sequences: 2 });
    const pinned = await model.session({ pinned: true });
    await pinned.complete('0 '.repeat(100), { maxTokens: 0 });
    const session = await model.session({ system });
    const error = await failure(session.chat(`${facts} ${facts}`, greedy));
    expect(error.code).toBe('ERR_OUT_OF_MEMORY');
    expect(error.details).toMatchObject({ kvTokens: 256, free: 256 - pinned.usedTokens });
    expect(error.message).toMatch(/256 cells .* kvTokens/);
    expect(session.messages).toHaveLength(1);
    await pinned.dispose();
    expect(await talk(session, [facts])).toEqual([said[0]]);
    await model.dispose();
  });

  test('because answers grow: the one that came last waits, both end as alone', async () => {
    const model = await open({ context: 200, kvTokens: 200, sequences: 2 });
    const [one, two] = [await model.session(), await model.session()];
    const results = await Promise.all([one, two].map((session) => session.complete('0 '.repeat(30), { ...greedy, ignoreEos: true, maxTokens: 110 })));
    for (const { usage } of results) expect(usage.generated).toBe(110);
    expect(results.map(({ usage }) => usage.interrupted > 0)).toEqual([false, true]);
    await model.dispose();
  });
});

describe('options', () => {
  test('kvTokens below context is refused by name', async () => {
    const error = await failure(open({ context: 512, kvTokens: 511 }));
    expect(error.code).toBe('ERR_INVALID_ARG');
    expect(error.message).toMatch(/kvTokens is 511.*512 tokens \(context\)/);
  });

  test.each([
    [{ sequences: 0 }, /sequences/],
    [{ sequences: 255 }, /sequences.*254/],
    [{ spareSequences: -1 }, /spareSequences/],
    [{ kvTokens: 1.5 }, /kvTokens/],
    [{ cache: { ramBytes: -1 } }, /cache\.ramBytes/],
    [{ cache: { rambytes: 5 } }, /did you mean "ramBytes"/],
    [{ cache: { diskDir: '' } }, /cache\.diskDir/],
  ])('%o is refused', (options, message) => {
    expect(() => open(options as LoadOptions)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG', message: expect.stringMatching(message) as string }));
  });

  test('as many sequences as there are', async () => {
    const model = await open({ context: 16, sequences: 254 });
    expect(model.placement).toMatchObject({ sequences: 254, sequenceIds: 254, kvTokens: 16 * 254 });
    await model.dispose();
  });

  // Heads have 64 elements on every model here, and blocks 32 at most: no K or V type is refused for its size. Types may differ.
  test.each([
    { k: 'q8_0', v: 'f16' },
    { k: 'f16', v: 'q4_0' },
    { k: 'bf16', v: 'f32' },
    { k: 'iq4_nl', v: 'q5_1' },
  ] as const)('%o generates', async (kv) => {
    const model = await open({ context: 256, kv });
    expect((await (await model.session()).complete('Once upon', { ...greedy, ignoreEos: true, maxTokens: 10 })).usage.generated).toBe(10);
    await model.dispose();
  });

  test('the defaults: an eighth of the free memory at most, no disk', async () => {
    const model = await open();
    expect(model.cache.ram.budget).toBeGreaterThan(0);
    expect(model.cache.ram.budget).toBeLessThanOrEqual(Math.min(2 ** 31, totalmem() / 8));
    expect(model.cache).toMatchObject({ disk: { budget: 0 }, checkpoints: { budget: 2 ** 28 }, cells: { total: 512 } });
    await model.dispose();
  });
});
