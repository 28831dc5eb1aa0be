import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Model, Session } from '../../dist/index.js';
import { afresh, asked, facts, failure, greedy, hybrid, lengthy, open, said, system, talk, treeCells, twin, user } from './conversation.js';

let model: Model;

beforeAll(async () => {
  model = await open({ sequences: 2 });
});
afterAll(() => model.dispose());

async function expectEmpty(which: Model): Promise<void> {
  await which.trimCache();
  const { cells, sequences, sessions, prefixes } = which.cache;
  expect({ used: cells.used, sequences: sequences.used, open: sessions.open, prefixes }).toEqual({ used: 0, sequences: 0, open: 0, prefixes: [] });
}
afterEach(() => expectEmpty(model));

const started = async (which = model, options = {}) => {
  const session = await which.session({ system, ...options });
  expect(await talk(session, [facts])).toEqual([said[0]]);
  return session;
};
const disposeAll = (...sessions: Session[]) => Promise.all(sessions.map((session) => session.dispose()));

describe('a fork', () => {
  test('takes no cells, shares every one of its parent, and goes on as that would', async () => {
    const parent = await started();
    const { used } = model.cache.cells;
    expect(used).toBe(parent.usedTokens);
    const fork = await parent.fork();
    expect(fork.usedTokens).toBe(used);
    await expect.poll(() => model.cache.prefixes).toEqual([{ first: 0, tokens: used, references: 2, pinned: false }]);
    expect(model.cache.cells).toMatchObject({ used, shared: used, retained: 0 });

    const prefilled = model.stats().prefillTokens;
    const { text, usage } = await fork.chat(asked[1], greedy);
    expect(text).toBe(said[1]);
    expect(usage.cached).toBeGreaterThanOrEqual(used);
    expect(model.stats().prefillTokens - prefilled).toBe(usage.prompt - usage.cached);
    expect(parent.messages).toHaveLength(3);
    expect(fork.messages).toHaveLength(5);
    expect(await talk(parent, asked.slice(1))).toEqual(said.slice(1));
    expect(await talk(fork, asked.slice(2))).toEqual(said.slice(2));
    await disposeAll(parent, fork);
  });

  test('differs from its parent without touching it', async () => {
    const parent = await started();
    const fork = await parent.fork();
    fork.rewind(1);
    expect(await talk(fork, ['The hamster of Rufus is called Bim. What is the hamster of Rufus called?'])).toEqual(['The hamster of Rufus is called Bim.']);
    expect(await talk(parent, asked.slice(1))).toEqual(said.slice(1));
    await disposeAll(parent, fork);
  });

  test('has its parent’s sampling, but is pinned only by itself', async () => {
    const parent = await started(model, { sampling: { temperature: 0, topK: 1, logitBias: { 25: -1 } }, pinned: true });
    const fork = await parent.fork();
    await expect.poll(() => model.cache.sessions).toEqual({ open: 2, resident: 2, pinned: 1 });
    const story = 'Tell me a story.';
    const drawn = { maxTokens: 30, seed: 5 }; // at the default temperature, two draws would differ
    expect((await fork.chat(story, { ...drawn, seed: 6 })).text).toBe((await parent.chat(story, drawn)).text);
    await disposeAll(parent, fork);
  });

  test('of a session without tokens, and of one whose parent has gone', async () => {
    const parent = await model.session({ system });
    const child = await parent.fork();
    await parent.dispose();
    expect(await talk(child, [facts])).toEqual([said[0]]);
    const grandchild = await child.fork();
    await child.dispose();
    expect(await talk(grandchild, asked.slice(1))).toEqual(said.slice(1));
    await grandchild.dispose();
  });
});

describe('trees of forks', () => {
  const orders: Record<string, readonly number[]> = {
    'the root first': [0, 1, 2, 3, 4, 5, 6],
    'the leaves first': [6, 5, 4, 3, 2, 1, 0],
    'the branches first': [1, 4, 2, 5, 3, 6, 0],
    'as they come': [3, 0, 6, 2, 5, 1, 4],
  };
  test.each(Object.entries(orders))('give every cell back: %s', async (_, order) => {
    const root = await started();
    const [a, b] = [await root.fork(), await root.fork()];
    await talk(a, ['What is 1 + 1?']);
    await talk(b, ['What is 1 + 2?']);
    const leaves = await Promise.all([a.fork(), a.fork(), b.fork(), b.fork()]);
    for (const [i, leaf] of leaves.entries()) await talk(leaf, [`What is ${i + 3} + 4?`]);
    expect(treeCells(model)).toBe(model.cache.cells.used);
    const shared = model.cache.prefixes.map((node) => node.references).filter((n) => n > 1);
    expect(shared.sort((x, y) => y - x)).toEqual(expect.arrayContaining([7, 3, 3]));

    const sessions = order.map((i) => [root, a, b, ...leaves][i]!);
    const last = sessions.pop()!;
    for (const session of sessions) {
      await session.dispose();
      await model.trimCache();
      expect(treeCells(model)).toBe(model.cache.cells.used);
    }
    expect(model.cache.cells.used).toBe(last.usedTokens);
    expect(await talk(last, asked.slice(1))).toEqual(said.slice(1));
    await last.dispose();
  });

  test('a hundred forks take an id each and no cell', async () => {
    const root = await started();
    const { used } = model.cache.cells;
    const forks = await Promise.all(Array.from({ length: 100 }, () => root.fork()));
    await expect.poll(() => model.cache.sequences.used).toBe(101);
    expect(model.cache.cells).toMatchObject({ used, shared: used });
    expect(await talk(forks[57]!, [asked[1]])).toEqual([said[1]]);
    await disposeAll(root, ...forks);
  });

  test('forks without an id of their own wait without cells, and go on exactly', async () => {
    const narrow = await open({ sequences: 1, spareSequences: 0 });
    const root = await started(narrow);
    const forks = [await root.fork(), await root.fork()];
    for (const session of [...forks, root]) expect(await talk(session, [asked[1]])).toEqual([said[1]]);
    expect(narrow.cache.sequences).toEqual({ total: 1, used: 1 });
    expect(narrow.cache.evictions).toBe(3);
    await disposeAll(root, ...forks);
    await expectEmpty(narrow);
    await narrow.dispose();
  });
});

describe('hazards', () => {
  test('busy, disposed, and a model that has gone', async () => {
    const own = await open();
    const session = await own.session();
    const running = session.complete('Once', { ...greedy, ignoreEos: true });
    expect((await failure(session.fork())).code).toBe('ERR_BUSY');
    await running.cancel();
    const fork = await session.fork();
    await session.dispose();
    expect((await failure(session.fork())).code).toBe('ERR_DISPOSED');
    await own.dispose();
    expect((await failure(fork.fork())).code).toBe('ERR_DISPOSED');
  });

  test('while another session decodes: its text stays what it is', async () => {
    const model = await open({ sequences: 2 }, twin);
    const talker = await model.session();
    const { text } = await talker.chat(lengthy.prompt, lengthy.options);
    talker.rewind(0);
    const parent = await started(model);
    const steps = model.stats().sharedSteps;
    const running = talker.chat(lengthy.prompt, lengthy.options);
    void Promise.resolve(running).catch(() => {}); // leaving the loop shall not cancel
    for await (const chunk of running) if (chunk.type === 'text') break;
    const forks = await Promise.all([parent.fork(), parent.fork()]);
    for (const fork of forks) expect(await talk(fork, [asked[1]])).toEqual([said[1]]);
    await disposeAll(...forks);
    expect((await running).text).toBe(text);
    expect(model.stats().sharedSteps).toBeGreaterThan(steps);
    await disposeAll(parent, talker);
    await expectEmpty(model);
    await model.dispose();
  });

  test.each([
    ['in memory', {}],
    ['nowhere', { ramBytes: 0 }],
  ])('of a session that gave up its cells, its state %s', async (where, cache) => {
    const small = await open({ sequences: 2, context: 256, kvTokens: 256, cache });
    const parent = await started(small);
    const filler = await small.session();
    await filler.complete('The old bear', { ...greedy, ignoreEos: true, maxTokens: 220 });
    expect(small.cache.evictions).toBe(1);
    const fork = await parent.fork();
    const used = fork.usedTokens;
    expect(used).toBe(parent.usedTokens);
    await parent.dispose();
    const { text, usage } = await fork.chat(asked[1], greedy);
    expect(text).toBe(said[1]);
    expect(small.cache.restores).toBe(where === 'in memory' ? 1 : 0);
    if (where === 'in memory') expect(usage.cached).toBe(used);
    else expect(usage.cached).toBeLessThan(3); // the begin token may be shared
    await disposeAll(fork, filler);
    await expectEmpty(small);
    expect(small.cache.ram).toMatchObject({ bytes: 0, entries: 0 });
    await small.dispose();
  });

  test('of a recurrent model', async () => {
    const model = await open({ sequences: 2 }, hybrid);
    const short = { ...greedy, maxTokens: 20 };
    const parent = await model.session();
    await parent.chat('a', short);
    const messages = [...parent.messages, user('b')];
    const fork = await parent.fork();
    const [one, two] = [await fork.chat('b', short), await parent.chat('b', short)];
    expect(two.text).toBe(one.text);
    expect(one.usage.cached).toBeGreaterThan(0);
    await disposeAll(parent, fork);
    expect(await afresh(model, messages, short)).toBe(one.text);
    await expectEmpty(model);
    await model.dispose();
  });
});
