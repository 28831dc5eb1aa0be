import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Model, Session } from '../../dist/index.js';
import { afresh, asked, facts, greedy, hybrid, open, said, system, talk, user } from './conversation.js';

let model: Model;
let session: Session;

beforeAll(async () => {
  model = await open();
});
afterAll(() => model.dispose());

/** A conversation, with what the session held after each turn. */
async function talked(which = model, options = {}): Promise<number[]> {
  session = await which.session({ system });
  const used = [];
  for (const question of asked) {
    await session.chat(question, { ...greedy, ...options });
    used.push(session.usedTokens);
  }
  return used;
}

describe('rewind', () => {
  test('takes turns back: only what follows them is prefilled', async () => {
    const used = await talked();
    session.rewind(-4);
    expect(session.messages.map((message) => message.content)).toEqual([system, asked[0], said[0], asked[1], said[1]]);
    const before = model.stats().prefillTokens;
    const { text, usage } = await session.chat(asked[3], greedy);
    expect(text).toBe(said[3]);
    expect(usage.cached).toBeGreaterThanOrEqual(used[1]!);
    expect(usage.cached).toBeLessThan(used[2]!);
    expect(model.stats().prefillTokens - before).toBe(usage.prompt - usage.cached);
    expect(session.messages).toHaveLength(7);
    await session.dispose();
  });

  test('to nothing: the same question again costs one token', async () => {
    const chat = await model.session({ sampling: greedy });
    const one = await chat.chat(facts);
    chat.rewind(0);
    expect(chat.messages).toEqual([]);
    const two = await chat.chat(facts);
    expect(two.text).toBe(one.text);
    expect(two.usage.cached).toBe(two.usage.prompt - 1);
    await chat.dispose();
  });

  test('counts from either end, and never beyond', async () => {
    await talked();
    const all = session.messages;
    expect(all).toHaveLength(9);
    for (const count of [9, 100, 2 ** 31 - 1]) {
      session.rewind(count);
      expect(session.messages).toEqual(all);
    }
    session.rewind(-1); // the answer alone
    expect(session.messages).toEqual(all.slice(0, 8));
    session.rewind(3);
    expect(session.messages).toEqual(all.slice(0, 3));
    session.rewind(-100);
    expect(session.messages).toEqual([]);
    for (const count of [1.5, NaN, '2', undefined, null]) {
      expect(() => session.rewind(count as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG', message: expect.stringContaining('session.rewind') as string }));
    }
    await session.dispose();
    expect(() => session.rewind(0)).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
  });

  test('not while the session works; an abort leaves the conversation to rewind', async () => {
    await talked();
    const running = session.chat('Tell me a story.', { ignoreEos: true });
    expect(() => session.rewind(-2)).toThrow(expect.objectContaining({ code: 'ERR_BUSY' }));
    await running.cancel();
    expect(session.messages).toHaveLength(9);
    session.rewind(-6);
    expect(await talk(session, [asked[2]])).toEqual([said[2]]);
    await session.dispose();
  });
});

describe('an earlier message that is edited', () => {
  test('prefills from the edit on', async () => {
    const used = await talked();
    const messages = [...session.messages.slice(0, 3), user('Where does Rosa live?'), { role: 'assistant', content: said[2] } as const, user(asked[3])];
    const before = model.stats().prefillTokens;
    const { text, usage } = await session.chat(messages, greedy);
    expect(text).toBe(said[3]);
    expect(usage.cached).toBeGreaterThanOrEqual(used[0]!);
    expect(usage.cached).toBeLessThan(used[1]!);
    expect(model.stats().prefillTokens - before).toBe(usage.prompt - usage.cached);
    expect(session.messages).toEqual([...messages, { role: 'assistant', content: said[3] }]);
    await session.dispose();
  });

  test('changes what follows', async () => {
    await talked();
    const [first, , ...rest] = session.messages;
    const messages = [first!, user(facts.replace('Steasbrushhesh', 'Bitri').replace('12', '35')), ...rest.slice(0, 1), user(asked[1])];
    expect((await session.chat(messages, greedy)).text).toBe('The hamster of Rufus is called Bitri.');
    expect(await talk(session, [asked[3]])).toEqual(['The yellow card opens box 35.']);
    await session.dispose();
  });
});

test('an answer stays as the ids that were chosen, though its text would be tokenised otherwise', async () => {
  const words = await model.tokenize('I will remember that.');
  const logitBias = Object.fromEntries([...words.slice(1, 3)].map((token) => [token, -Infinity])); // to be spelled in smaller pieces
  const chat = await model.session({ sampling: greedy });
  const { text, usage } = await chat.chat(facts, { logitBias, grammar: 'root ::= "I will remember that."' });
  expect(text).toBe('I will remember that.');
  expect(usage.generated).toBeGreaterThan(words.length);
  const used = chat.usedTokens;
  expect(used).toBeGreaterThan(usage.prompt + words.length);
  const respelled = await model.tokenize(await model.render([...chat.messages, user(asked[2])]), { special: true, bos: true });
  const next = await chat.chat(asked[2]);
  expect(next.text).toBe(said[2]);
  expect(next.usage.cached).toBeGreaterThanOrEqual(used);
  expect(next.usage.prompt).toBe(respelled.length + usage.generated - words.length);
  await chat.dispose();
});

describe('a recurrent model', () => {
  const short = { ...greedy, maxTokens: 8 };
  let model: Model;
  beforeAll(async () => {
    model = await open({}, hybrid);
  });
  afterAll(() => model.dispose());

  test('goes back to the checkpoint before, and says what a fresh session does', async () => {
    const used = await talked(model, { maxTokens: 8 });
    session.rewind(-4);
    const messages = [...session.messages, user('Hello!')];
    const { text, usage } = await session.chat('Hello!', short);
    expect(usage.cached).toBeGreaterThan(0);
    expect(usage.cached).toBeLessThanOrEqual(used[1]!);
    expect(usage.cached).toBeGreaterThanOrEqual(used[0]!);
    await session.dispose();
    expect(await afresh(model, messages, short)).toBe(text);
  });

  test('prefills from the beginning without one', async () => {
    const bare = await open({ cache: { checkpointBytes: 0 } }, hybrid);
    await talked(bare, { maxTokens: 8 });
    session.rewind(-4);
    const messages = [...session.messages, user('Hello!')];
    const { text, usage } = await session.chat('Hello!', short);
    expect(usage.cached).toBe(0);
    expect(bare.cache.checkpoints).toEqual({ bytes: 0, entries: 0, budget: 0 });
    expect(await afresh(model, messages, short)).toBe(text);
    await bare.dispose();
  });

  test('keeps its checkpoints within their budget', async () => {
    const checkpointBytes = 400_000;
    const small = await open({ cache: { checkpointBytes } }, hybrid);
    await talked(small, { maxTokens: 8 });
    const { bytes, entries, budget } = small.cache.checkpoints;
    expect(budget).toBe(checkpointBytes);
    expect(bytes).toBeLessThanOrEqual(budget);
    expect(entries).toBeGreaterThan(0);
    await small.dispose();
  });
});
