import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Model, Session } from '../../dist/index.js';
import { asked, facts, failure, greedy, hybrid, open, said, system, talk, treeCells, user } from './conversation.js';

const context = 1024;
const long = 'The fox looked at the river. '.repeat(40);
let model: Model;

beforeAll(async () => {
  model = await open({ context, sequences: 4, kvTokens: 2048 });
});
afterEach(async () => {
  await model.trimCache();
  expect(model.cache).toMatchObject({ cells: { used: 0, retained: 0 }, sequences: { used: 0 }, sessions: { open: 0, pinned: 0 }, prefixes: [] });
});
afterAll(() => model.dispose());

const disposeAll = (sessions: readonly { dispose(): Promise<void> }[]) => Promise.all(sessions.map((session) => session.dispose()));
const ask = async (session: Session, question: string) => session.chat(question, greedy);

describe('a common beginning', () => {
  test('is shared by sessions that know nothing of each other', async () => {
    const one = await model.session({ system });
    expect((await ask(one, facts)).usage.cached).toBe(0);
    const alone = model.cache.cells.used;
    const two = await model.session({ system });
    const { text, usage } = await ask(two, facts);
    expect([text, usage.cached]).toEqual([said[0], usage.prompt - 1]);
    expect(model.cache.cells.used).toBe(alone + two.usedTokens - usage.cached);
    expect(model.cache.cells.shared).toBe(usage.cached);
    for (const session of [two, one]) expect(await talk(session, [asked[1]])).toEqual([said[1]]);
    await disposeAll([one, two]);
  });

  test('at three depths: nodes are split, each cell is counted once', async () => {
    const sessions = [];
    const questions = [facts, 'What is 3 + 4?', 'What is 3 + 5?'];
    for (const question of questions) {
      const session = await model.session({ system });
      await ask(session, question);
      sessions.push(session);
    }
    const { prefixes, cells } = model.cache;
    expect(treeCells(model)).toBe(cells.used);
    expect(prefixes[0]).toMatchObject({ first: 0, references: 3 });
    const deeper = prefixes.filter((node) => node.references === 2);
    expect(deeper).toHaveLength(1);
    expect(deeper[0]!.first).toBe(prefixes[0]!.tokens);
    const leaves = prefixes.filter((node) => node.references === 1);
    expect(leaves).toHaveLength(3);
    for (const leaf of leaves) expect([prefixes[0]!.tokens, deeper[0]!.first + deeper[0]!.tokens]).toContain(leaf.first);
    expect(cells.shared).toBe(prefixes[0]!.tokens + deeper[0]!.tokens);
    const ends = leaves.map((leaf) => leaf.first + leaf.tokens).sort((a, b) => a - b);
    expect(ends).toEqual(sessions.map((session) => session.usedTokens).sort((a, b) => a - b));
    await disposeAll(sessions);
  });

  test('of requests at the same time is prefilled once', async () => {
    const sessions = await Promise.all(Array.from({ length: 4 }, () => model.session()));
    const before = model.stats();
    const begin = long.repeat(3); // more than one step, so that the others come in the midst of it
    const results = await Promise.all(sessions.map((session, i) => session.complete(`${begin}Once upon a time ${i}`, { ...greedy, maxTokens: 5 })));
    const { prompt } = results[0]!.usage;
    expect(prompt).toBeGreaterThan(800);
    for (const { usage } of results.filter(({ usage }) => usage.cached > 0)) expect(usage.prompt - usage.cached).toBeLessThan(16);
    expect(model.stats().prefillTokens - before.prefillTokens).toBeLessThan(prompt + 3 * 16);
    expect(model.cache.cells.used).toBeLessThan(prompt + 4 * 24);
    await disposeAll(sessions);
  });

  test('stays when its session is disposed, until it is trimmed', async () => {
    const one = await model.session();
    await one.complete(long, { maxTokens: 0 });
    const used = one.usedTokens;
    await one.dispose();
    expect(model.cache).toMatchObject({ cells: { used, retained: used }, sessions: { open: 0, resident: 0 } });
    const two = await model.session();
    expect((await two.complete(`${long}And then`, { ...greedy, maxTokens: 1 })).usage.cached).toBeGreaterThanOrEqual(used - 2);
    await model.trimCache();
    expect(model.cache.cells).toMatchObject({ used: two.usedTokens, retained: 0 });
    await two.dispose();
  });

  test('that waits for nobody gives way before a session does', async () => {
    const small = await open({ context: 256, kvTokens: 256, sequences: 2 });
    const [gone, stays] = [await small.session({ system }), await small.session()];
    await stays.complete('One bear, two bears, three bears. '.repeat(8), { maxTokens: 0 });
    const kept = stays.usedTokens;
    await talk(gone, [facts, asked[1]], greedy); // used last
    await gone.dispose();
    expect(small.cache.cells.retained).toBeGreaterThan(50);
    const filler = await small.session();
    await filler.complete('The fox looked at the river. '.repeat(14), { maxTokens: 0 });
    const { cells, evictions } = small.cache; // the begin token is shared
    expect([cells.used, cells.retained, evictions]).toEqual([kept + filler.usedTokens - cells.shared, 0, 0]);
    await small.dispose();
  });
});

describe('prime', () => {
  const messages = [{ role: 'system', content: `${system} ${long}` }] as const;

  test('prefills what every conversation with these messages begins with', async () => {
    await using prime = await model.prime(messages);
    const rendered = await Promise.all(['Hello!', '1 + 1?'].map(async (content) => model.tokenize(await model.render([...messages, user(content)]), { special: true, bos: true })));
    const common = rendered[0]!.findIndex((token, i) => token !== rendered[1]![i]);
    expect(prime.tokens).toBeGreaterThan(250);
    expect(prime.tokens).toBeLessThanOrEqual(common);
    expect(model.cache).toMatchObject({ cells: { used: prime.tokens }, sessions: { open: 1, pinned: 1 }, prefixes: [{ first: 0, tokens: prime.tokens, references: 1, pinned: true }] });
    for (const question of ['What is 3 + 4?', 'Hello!']) {
      const session = await model.session({ system: messages[0].content });
      const { usage } = await session.chat(question, { ...greedy, maxTokens: 3 });
      expect(usage.cached).toBeGreaterThanOrEqual(prime.tokens);
      await session.dispose();
    }
  });

  test('with a user’s turn at the end it is the prompt; with an assistant’s, too, whatever is asked next', async () => {
    for (const turns of [[user(facts)], [user(facts), { role: 'assistant', content: said[0] } as const]]) {
      const prime = await model.prime(turns);
      const session = await model.session();
      const { text, usage } = await session.chat(turns.length === 1 ? turns : [...turns, user(asked[1])], greedy);
      expect(text).toBe(turns.length === 1 ? said[0] : said[1]);
      expect(usage.cached).toBe(turns.length === 1 ? usage.prompt - 1 : prime.tokens);
      await disposeAll([prime, session]);
    }
  });

  test('its cells stay under pressure, and go when it is disposed', async () => {
    const small = await open({ context: 256, kvTokens: 320, sequences: 2 });
    const prime = await small.prime([{ role: 'system', content: system }, user(facts)]);
    for (let i = 0; i < 6; i++) {
      const filler = await small.session();
      await filler.complete(`${i} `.repeat(100), { maxTokens: 0 });
      const { prefixes } = small.cache;
      expect(prefixes.filter((node) => node.pinned).reduce((sum, node) => sum + node.tokens, 0)).toBe(prime.tokens);
    }
    expect(small.cache.evictions).toBeGreaterThan(2);
    const session = await small.session({ system });
    expect((await ask(session, facts)).usage.cached).toBe(prime.tokens - 1);
    await Promise.all([prime.dispose(), prime.dispose()]);
    expect(small.cache.sessions.pinned).toBe(0);
    await small.dispose();
  });

  test('a prefix that is too long, and one that nothing has room for', async () => {
    const small = await open({ context: 64, kvTokens: 100 });
    const full = await failure(small.prime(messages));
    expect(full.code).toBe('ERR_CONTEXT_FULL');
    expect(full.details['available']).toBe(64);
    expect(small.cache).toMatchObject({ sessions: { open: 0 }, cells: { used: 0 } });
    const prime = await small.prime([{ role: 'system', content: 'red blue green '.repeat(13) }]);
    const none = await failure(small.prime([{ role: 'system', content: 'one two three '.repeat(15) }]));
    expect(none.code).toBe('ERR_OUT_OF_MEMORY');
    expect(none.details).toMatchObject({ kvTokens: 100, free: 100 - prime.tokens });
    expect(small.cache.sessions).toEqual({ open: 1, resident: 1, pinned: 1 });
    await prime.dispose();
    await small.dispose();
  });

  test('aborted before and while it is prefilled; wrong arguments', async () => {
    const error = await failure(model.prime(messages, { signal: AbortSignal.abort('no') }));
    expect([error.code, error.cause]).toEqual(['ERR_ABORTED', 'no']);
    const abort = new AbortController();
    const priming = failure(model.prime([{ role: 'system', content: 'The fox looked at the river. '.repeat(120) }], { signal: abort.signal }));
    abort.abort('enough');
    expect((await priming).code).toBe('ERR_ABORTED');
    for (const wrong of [[], 'x', undefined, [{ role: 'wizard', content: '' }]]) {
      await expect(model.prime(wrong as never)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
    }
    await expect(model.prime(messages, { reasonin: 'on' } as never)).rejects.toThrow(/did you mean "reasoning"/);
    const own = await open();
    await own.dispose();
    expect((await failure(own.prime(messages))).code).toBe('ERR_DISPOSED');
  });

  test('a recurrent model, too', async () => {
    const model = await open({ context }, hybrid);
    const prime = await model.prime(messages);
    const session = await model.session({ system: messages[0].content });
    expect((await session.chat('Hello!', { ...greedy, maxTokens: 3 })).usage.cached).toBe(prime.tokens);
    await model.dispose();
  });
});

test('a pinned session keeps its cells, while there is any other way', async () => {
  const small = await open({ context: 256, kvTokens: 300, sequences: 2 });
  const session = await small.session({ system, pinned: true });
  await talk(session, [facts]);
  const used = session.usedTokens;
  for (let i = 0; i < 4; i++) await (await small.session()).complete(`${i} `.repeat(90), { maxTokens: 0 });
  expect(small.cache).toMatchObject({ sessions: { pinned: 1 }, restores: 0 });
  expect(small.cache.evictions).toBeGreaterThan(1);
  const { text, usage } = await ask(session, asked[1]);
  expect([text, usage.cached]).toEqual([said[1], used]);
  expect(small.cache.restores).toBe(0);
  await small.dispose();
});
