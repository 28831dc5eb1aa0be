import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Full, Message, Model, OnFull, Session } from '../../dist/index.js';
import { asked, failure, greedy, hybrid, open, said, system, talk, user } from './conversation.js';

const context = 170;
const sum = 'What is 5 + 9?';
let model: Model;

beforeAll(async () => {
  model = await open({ context, sequences: 2 });
});
afterEach(() => model.trimCache()); // cells that somebody else holds are not moved
afterAll(() => model.dispose());

/** A conversation of four turns and a sum, of 158 tokens; another question is too much. */
async function talked(onFull?: OnFull, which = model): Promise<Session> {
  const session = await which.session({ system, sampling: greedy, ...(onFull !== undefined && { onFull }) });
  await talk(session, [...asked, 'What is 3 + 4?'], { maxTokens: which === model ? 16 : 7 });
  expect(session.messages).toHaveLength(11);
  return session;
}
const contents = (messages: readonly Message[]) => messages.map((message) => message.content);

describe("'error'", () => {
  test('comes with figures and before any work; the session stays what it was', async () => {
    const session = await talked();
    const { steps, prefillTokens } = model.stats();
    const prompt = await model.tokenize(await model.render([...session.messages, user(sum)]), { special: true, bos: true });
    const error = await failure(session.chat(sum));
    expect(error.code).toBe('ERR_CONTEXT_FULL');
    expect(error.details).toMatchObject({ requested: prompt.length + 1, used: session.usedTokens, available: context, text: '' });
    expect(model.stats()).toMatchObject({ steps, prefillTokens });
    expect(session.messages).toHaveLength(11);
    session.rewind(-2);
    const { text, usage } = await session.chat('What is 3 + 4?');
    expect([text, usage.cached]).toEqual(['3 + 4 = 7', usage.prompt - 1]);
    await session.dispose();
  });

  test('an answer that reaches the end stops there; one with room for one token gives it', async () => {
    const session = await model.session();
    const { reason, usage } = await session.complete('One two three', { ...greedy, ignoreEos: true });
    expect([reason, usage.prompt + usage.generated]).toEqual(['length', context + 1]); // the last one is not decoded any more
    const begins = (await model.tokenize('', { bos: true })).length;
    const words = (n: number) => ' fox'.repeat(n - begins);
    const last = await session.complete(words(context - 1), { ...greedy, ignoreEos: true });
    expect([last.usage.prompt, last.usage.generated, last.reason]).toEqual([context - 1, 2, 'length']);
    expect((await failure(session.complete(words(context)))).details).toMatchObject({ requested: context + 1, available: context });
    expect((await session.complete(words(context), { maxTokens: 0 })).usage.prompt).toBe(context); // no room needed
    await session.dispose();
  });
});

describe("'shift'", () => {
  test('drops the oldest turns as whole messages, and moves the cells of the rest', async () => {
    const session = await talked('shift');
    const before = session.messages;
    const { text, usage, dropped } = await session.chat(sum, { maxTokens: 20 });
    expect(text).toBe('5 + 9 = 14');
    expect(dropped.length).toBeGreaterThan(0);
    expect(dropped.length % 2).toBe(0);
    expect(dropped).toEqual(before.slice(1, 1 + dropped.length));
    expect(contents(session.messages)).toEqual([system, ...contents(before.slice(1 + dropped.length)), sum, text]);
    expect(usage.shifted).toBeGreaterThan(20);
    expect(usage.cached).toBeGreaterThanOrEqual(usage.shifted);
    expect(usage.prompt - usage.cached).toBeLessThan(25);
    // The next turn finds what was moved, and the one after, too.
    const next = await session.chat('What is 1 + 2?', { maxTokens: 20 });
    expect([next.text, next.usage.cached >= next.usage.prompt - 25]).toEqual(['1 + 2 = 3', true]);
    await session.dispose();
    expect(model.cache.cells.used).toBe(0); // moved cells are of use to nobody else
  });

  test('a conversation goes on for ever', async () => {
    const session = await model.session({ system, sampling: greedy, onFull: 'shift' });
    let shifted = 0;
    for (let i = 1; i <= 20; i++) {
      const { text, usage } = await session.chat(`What is ${i} + 3?`, { maxTokens: 20 });
      expect(text).toBe(`${i} + 3 = ${i + 3}`);
      shifted += Number(usage.shifted > 0);
    }
    expect(shifted).toBeGreaterThan(2);
    expect(session.messages[0]).toEqual({ role: 'system', content: system });
    expect(session.usedTokens).toBeLessThanOrEqual(context);
    await session.dispose();
  });

  test('cells that a fork holds are not moved: what is kept is prefilled', async () => {
    const session = await talked('shift');
    const fork = await session.fork();
    const { text, usage, dropped } = await session.chat(sum, { maxTokens: 20 });
    expect([text, usage.shifted]).toEqual(['5 + 9 = 14', 0]);
    expect(usage.cached).toBeLessThan(30); // the system prompt
    expect(dropped.length).toBeGreaterThan(0);
    fork.rewind(3);
    expect(await talk(fork, asked.slice(1, 3))).toEqual(said.slice(1, 3));
    await Promise.all([session.dispose(), fork.dispose()]);
  });

  test('moved cells are nobody else’s: forks and snapshots are as if prefilled', async () => {
    const session = await talked('shift');
    expect((await session.chat(sum, { maxTokens: 20 })).usage.shifted).toBeGreaterThan(0);
    const fork = await session.fork();
    const plain = await fork.chat('What is 1 + 2?', { maxTokens: 20 });
    expect(plain.text).toBe('1 + 2 = 3');
    expect(plain.usage.cached).toBeLessThan(30);
    const before = model.stats().prefillTokens;
    const snapshot = await session.snapshot();
    expect(model.stats().prefillTokens - before).toBeGreaterThan(50);
    const other = await model.session({ from: snapshot });
    expect(contents(other.messages)).toEqual(contents(session.messages));
    await Promise.all([session.dispose(), fork.dispose(), other.dispose()]);
  });

  test('the newest turn alone is too long: the error stands, nothing is lost', async () => {
    const session = await talked('shift');
    const error = await failure(session.chat('fox '.repeat(200)));
    expect(error.code).toBe('ERR_CONTEXT_FULL');
    expect(error.details['available']).toBe(context);
    expect(error.details['requested']).toBeGreaterThan(200);
    expect(session.messages).toHaveLength(11);
    session.rewind(3);
    expect(await talk(session, asked.slice(1, 3))).toEqual(said.slice(1, 3));
    await session.dispose();
  });

  test('a recurrent model prefills what is kept', async () => {
    const other = await open({ context }, hybrid);
    const session = await talked('shift', other);
    const before = session.messages;
    const { usage, dropped } = await session.chat(sum, { maxTokens: 10 });
    expect(usage.shifted).toBe(0);
    expect(dropped).toEqual(before.slice(1, 1 + dropped.length));
    expect(dropped.length).toBeGreaterThan(0);
    await other.dispose();
  });
});

describe('a function', () => {
  const summary: Message = { role: 'system', content: 'The user likes sums.' };
  test.each(['at once', 'later'])('chooses the messages, %s', async (when) => {
    let seen: Full | undefined;
    let counted = 0;
    const session = await talked(async (full) => {
      seen = full;
      counted = await full.count(full.messages);
      if (when === 'later') await wait(5);
      return [summary, ...full.messages.slice(-3)];
    });
    const before = session.messages;
    const types = [];
    const generation = session.chat(sum, { maxTokens: 20 });
    for await (const chunk of generation) types.push(chunk.type);
    const { text, dropped, usage } = await generation;
    expect(text).toBe('5 + 9 = 14');
    expect(types.filter((type) => type === 'finish')).toHaveLength(1);
    expect(contents(seen!.messages)).toEqual([...contents(before), sum]);
    expect([seen!.available, counted]).toEqual([context, seen!.requested]);
    expect(contents(dropped)).toEqual(contents(before.slice(0, -2)));
    expect(contents(session.messages)).toEqual([summary.content, ...contents(before.slice(-2)), sum, text]);
    expect(usage.shifted).toBe(0);
    await session.dispose();
  });

  test('that answers without a promise', async () => {
    const session = await talked((full) => full.messages.slice(-1));
    expect((await session.chat(sum, { maxTokens: 20 })).text).toBe('5 + 9 = 14');
    expect(session.messages).toHaveLength(2);
    await session.dispose();
  });

  const broken: [string, OnFull, string][] = [
    ['throws', () => { throw new Error('no idea'); }, 'ERR_CONTEXT_FULL'], // prettier-ignore
    ['rejects', () => Promise.reject(new Error('no idea')), 'ERR_CONTEXT_FULL'],
    ['returns something still too long', (full) => full.messages, 'ERR_CONTEXT_FULL'],
    ['returns no messages', () => [], 'ERR_INVALID_ARG'],
    ['returns something else', () => 'shorter' as never, 'ERR_INVALID_ARG'],
    ['returns nothing', () => undefined as never, 'ERR_INVALID_ARG'],
    ['returns wrong messages', () => [{ role: 'wizard', content: 'x' }] as never, 'ERR_INVALID_ARG'],
  ];
  test.each(broken)('that %s', async (name, onFull, code) => {
    const session = await talked(onFull);
    for (const read of ['awaited', 'iterated']) {
      const generation = session.chat(sum);
      const error = await failure(read === 'awaited' ? generation : (async () => { for await (const chunk of generation) expect(chunk.type).toBe('none'); })()); // prettier-ignore
      expect(error.code).toBe(code);
      if (name.endsWith('s') && code === 'ERR_CONTEXT_FULL') expect((error.cause as Error).message).toBe('no idea');
      if (code === 'ERR_CONTEXT_FULL') expect(error.details).toMatchObject({ available: context });
      expect(session.messages).toHaveLength(11);
    }
    session.rewind(3);
    expect(await talk(session, [asked[1]])).toEqual([said[1]]); // not busy
    await session.dispose();
  });

  test('options are checked', async () => {
    for (const onFull of ['slide', 5, {}]) await expect(model.session({ onFull: onFull as never })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
  });
});

describe('while a function is asked', () => {
  const never = () => new Promise<never>(() => {});
  const pending = async (onFull: Exclude<OnFull, string>, signal?: AbortSignal) => {
    let ask!: () => void;
    const isAsked = new Promise<void>((resolve) => (ask = resolve));
    const session = await talked((...given) => {
      ask();
      return onFull(...given);
    });
    const generation = session.chat(sum, { signal });
    void Promise.resolve(generation).catch(() => {});
    await isAsked;
    return { session, generation };
  };

  test('a signal ends the generation at once', async () => {
    const abort = new AbortController();
    const { session, generation } = await pending(never, abort.signal);
    const reading = failure((async () => { for await (const chunk of generation) expect(chunk.type).toBe('none'); })()); // prettier-ignore
    abort.abort('enough');
    for (const error of await Promise.all([failure(generation), reading])) expect([error.code, error.cause]).toEqual(['ERR_ABORTED', 'enough']);
    session.rewind(3);
    expect(await talk(session, [asked[1]])).toEqual([said[1]]);
    await session.dispose();
  });

  test('what it says after an abort is not asked any more', async () => {
    let answer!: (messages: readonly Message[]) => void;
    const { session, generation } = await pending(() => new Promise((resolve) => (answer = resolve)));
    await generation.cancel();
    expect((await failure(generation)).code).toBe('ERR_ABORTED');
    const { requests } = model.stats();
    answer([user(sum)]);
    await wait(20);
    expect(model.stats().requests).toBe(requests);
    expect(session.messages).toHaveLength(11);
    await session.dispose();
  });

  test.each(['session', 'model'])('the %s can be disposed', async (which) => {
    const own = await open({ context });
    const session = await own.session({ onFull: never });
    const generation = session.chat('fox '.repeat(200));
    const reading = failure((async () => { for await (const chunk of generation) expect(chunk.type).toBe('none'); })()); // prettier-ignore
    await wait(30);
    await (which === 'session' ? session : own).dispose();
    expect((await failure(generation)).code).toBe('ERR_ABORTED');
    expect((await reading).code).toBe('ERR_ABORTED');
    await own.dispose();
  });
});
