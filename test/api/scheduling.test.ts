import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Generation, Model, Result, Session } from '../../dist/index.js';
import { asked, failure, facts, greedy, lengthy, open, said, system, talk, twin } from './conversation.js';

const long = 'The fox looked at the river. ';
const quick = { ...greedy, maxTokens: 4 };
let model: Model; // one at a time
let sessions: Session[];
let undisturbed: string;

beforeAll(async () => {
  model = await open({ context: 2048, sequences: 1, kvTokens: 4096 }, twin);
  sessions = await Promise.all(Array.from({ length: 4 }, () => model.session()));
  undisturbed = (await sessions[0]!.chat(lengthy.prompt, lengthy.options)).text;
});
afterAll(() => model.dispose());

/** Longer than is sure, so that it is still at it when others come; what it says begins with what is. */
const start = (session: Session, options = {}): Generation => {
  session.rewind(0);
  return session.chat(lengthy.prompt, { ...lengthy.options, maxTokens: 600, ...options });
};
const expectUndisturbed = ({ text, usage }: Result) => {
  expect(usage.generated).toBe(600);
  expect(text.slice(0, undisturbed.length)).toBe(undisturbed);
};
/** Until its first text; the generation goes on. In an object, because a promise would await it. */
async function speaking(generation: Generation): Promise<{ generation: Generation }> {
  void generation.then(undefined, () => {});
  for await (const chunk of generation) if (chunk.type === 'text') break;
  return { generation };
}

describe('priority', () => {
  test('interrupts at a token; what was interrupted says what it would have said', async () => {
    const { generation } = await speaking(start(sessions[0]!, { priority: -5 }));
    const { preemptions } = model.stats();
    let ended = false;
    void generation.then(() => (ended = true));
    const urgent = await sessions[1]!.complete('Once upon', { ...quick, priority: 5 });
    expect([ended, urgent.usage.interrupted, model.stats().preemptions]).toEqual([false, 0, preemptions + 1]);
    const result = await generation;
    expectUndisturbed(result);
    expect(result.usage.interrupted).toBe(1);
  });

  test('interrupts the prefill of a long prompt, too', async () => {
    const prefilling = sessions[2]!.complete(long.repeat(280), { ...quick, priority: -1 });
    void prefilling.then(undefined, () => {});
    const order: string[] = [];
    for await (const chunk of prefilling) if (chunk.type === 'progress') break;
    await Promise.all([
      prefilling.then(() => order.push('long')),
      sessions[1]!.complete('Once upon', { ...quick, priority: 1 }).then(() => order.push('urgent')),
    ]);
    expect(order).toEqual(['urgent', 'long']);
    const alone = await sessions[3]!.complete(long.repeat(280), quick);
    expect((await prefilling).text).toBe(alone.text);
  });

  test('goes through several levels; nobody interrupts an equal, and the first comes first', async () => {
    const { generation } = await speaking(start(sessions[0]!));
    const order: string[] = [];
    const ask = (i: number, name: string, priority: number) =>
      sessions[i]!.complete(`${name} upon a time`, { ...quick, priority }).then(({ usage }) => {
        order.push(name);
        return usage;
      });
    const usages = await Promise.all([ask(1, 'equal', 0), ask(2, 'higher', 1), ask(3, 'highest', 2), generation.then(() => order.push('first'))]);
    expect(order.indexOf('equal')).toBe(3);
    expect(order.indexOf('first')).toBe(2);
    expect(order.slice(0, 2).sort()).toEqual(['higher', 'highest']);
    expect((await generation).usage.interrupted).toBeGreaterThan(0);
    expect((usages[0] as { queueMs: number }).queueMs).toBeGreaterThan(0);
    expectUndisturbed(await generation);
  });

  test('survives that its cells are needed meanwhile', async () => {
    const small = await open({ context: 1024, kvTokens: 1024, sequences: 1 }, twin);
    const [low, high] = [await small.session(), await small.session()];
    const { generation } = await speaking(start(low, { priority: -5 }));
    await high.complete(long.repeat(140), { ...quick, priority: 5 });
    const result = await generation;
    expectUndisturbed(result);
    expect(result.usage.interrupted).toBeGreaterThan(0);
    expect(small.cache.evictions).toBeGreaterThan(0);
    await small.dispose();
  });

  test('an interrupted one can be aborted, and its session goes on', async () => {
    const { generation } = await speaking(start(sessions[0]!, { priority: -5 }));
    const { generation: urgent } = await speaking(start(sessions[1]!, { priority: 5 }));
    expect(model.stats()).toMatchObject({ activeGenerations: 2, queuedGenerations: 1 });
    await generation.cancel();
    expect((await failure(generation)).details['usage']).toMatchObject({ interrupted: 1 });
    expect(await talk(sessions[0]!, ['What is 3 + 4?'])).toEqual(['3 + 4 = 7']);
    expectUndisturbed(await urgent);
  });

  test('is from -100 to 100', () => {
    for (const priority of [-101, 101, 0.5, '1']) {
      expect(() => sessions[0]!.complete('x', { priority: priority as never })).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG' }));
    }
  });
});

describe('equals', () => {
  test('take their turns in order of arrival', async () => {
    const { generation } = await speaking(start(sessions[0]!));
    const order: number[] = [];
    const usages = await Promise.all(
      [3, 1, 2].map(async (i) => {
        const { usage } = await sessions[i]!.complete(`${i} bears`, quick);
        order.push(i);
        return usage;
      }),
    );
    expect(order).toEqual([3, 1, 2]);
    const { usage } = await generation;
    expect([usage.interrupted, usage.queueMs < usages[0]!.queueMs]).toEqual([0, true]);
    for (const { queueMs, interrupted } of usages) expect([queueMs > 5, interrupted]).toEqual([true, 0]);
  });

  test('one that nobody reads gives its place to the others, and goes on when it is read', async () => {
    const options = { logprobs: 40, maxTokens: 200 }; // more than a ring holds
    const all = (await start(sessions[0]!, options)).logprobs.length;
    const iterator = start(sessions[0]!, options)[Symbol.asyncIterator]();
    await iterator.next();
    for (const i of [1, 2, 3]) expect((await sessions[i]!.complete(`${i} bears`, quick)).usage.generated).toBe(4);
    expect(model.stats().activeGenerations).toBe(1);
    let tokens = 0;
    let finish;
    for (let step = await iterator.next(); step.done !== true; step = await iterator.next()) {
      if (step.value.type === 'logprobs') tokens += step.value.logprobs.length;
      if (step.value.type === 'finish') finish = step.value.usage;
    }
    expect([finish?.generated, (finish?.interrupted ?? 0) > 0, tokens <= all]).toEqual([200, true, true]);
  });
});

test('aborting some of a batch leaves the others’ texts as they are', async () => {
  const many = await open({ context: 512, sequences: 4 }, twin);
  const own = await Promise.all(Array.from({ length: 4 }, () => many.session({ system })));
  for (const session of own) await talk(session, [facts]);
  const generations = [];
  for (const [i, session] of own.entries()) generations.push(i % 2 === 0 ? session.chat(asked[1], greedy) : start(session));
  const spoken = await Promise.all([speaking(generations[1]!), speaking(generations[3]!)]);
  await Promise.all(spoken.map(({ generation }) => generation.cancel()));
  for (const i of [0, 2]) expect((await generations[i]!).text).toBe(said[1]);
  expect(many.stats().sharedSteps).toBeGreaterThan(0);
  expect(many.stats().maxSequencesInStep).toBeGreaterThan(1);
  expect(await talk(own[0]!, asked.slice(2))).toEqual(said.slice(2));
  await many.dispose();
});

describe('what can be seen', () => {
  test('progress: from what was cached to all, with the time that is left once a rate is known', async () => {
    const session = await model.session();
    const prompt = long.repeat(120);
    for (let round = 0; round < 2; round++) {
      const seen = [];
      const generation = session.complete(round === 0 ? prompt : `${'A wolf sat by the well. '.repeat(60)}${prompt.slice(0, 2000)}`, quick);
      for await (const chunk of generation) if (chunk.type === 'progress') seen.push(chunk);
      const { usage } = await generation;
      expect(seen.length).toBeGreaterThan(1);
      expect(seen.at(-1)).toMatchObject({ done: usage.prompt, total: usage.prompt, cached: usage.cached });
      for (const [i, { done }] of seen.entries()) expect(done).toBeGreaterThan(i === 0 ? usage.cached : seen[i - 1]!.done);
      for (const { remainingMs } of seen.slice(1)) expect(remainingMs).toBeGreaterThanOrEqual(0);
      expect(seen.at(-1)!.remainingMs).toBe(0);
      if (round > 0) expect(seen[0]!.remainingMs).toBeGreaterThan(0);
    }
    await session.dispose();
  });

  test('stats count', async () => {
    const before = model.stats();
    const { usage } = await sessions[0]!.complete(`${long}One`, { ...quick, maxTokens: 10 });
    const after = model.stats();
    expect(after.requests - before.requests).toBe(1);
    expect(after.prefillTokens - before.prefillTokens).toBe(usage.prompt - usage.cached);
    expect(after.decodeTokens - before.decodeTokens).toBe(usage.generated - 1); // the last one is not decoded
    expect(after.steps - before.steps).toBeGreaterThanOrEqual(usage.generated);
    expect(after.queueMs - before.queueMs).toBeCloseTo(usage.queueMs, 6);
    expect(after).toMatchObject({ lastBatch: 1, activeGenerations: 0, queuedGenerations: 0, residentSessions: model.cache.sessions.resident });
  });

  test('the channels ternion:step and ternion:cache tell what changed', async () => {
    const small = await open({ context: 128, kvTokens: 128 });
    const seen: Record<string, Record<string, number>[]> = { cache: [], step: [] };
    const listeners = Object.entries(seen).map(([name, list]) => [`ternion:${name}`, (message: unknown) => void list.push(message as never)] as const);
    const [one, two] = [await small.session({ system }), await small.session({ system })];
    for (const [name, listener] of listeners) subscribe(name, listener);
    await talk(one, [facts]);
    await talk(two, ['What is 3 + 4?', 'What is 5 + 9?', 'What is 2 + 2?']);
    await talk(one, [asked[1]]);
    await wait(10);
    for (const [name, listener] of listeners) unsubscribe(name, listener);
    const sum = (name: string, key: string) => seen[name]!.reduce((total, message) => total + message[key]!, 0);
    const { evictions, restores, hits, cells } = small.cache;
    expect(evictions).toBeGreaterThan(0);
    expect([sum('cache', 'evictions'), sum('cache', 'restores'), sum('cache', 'hits')]).toEqual([evictions, restores, hits]);
    expect(Object.keys(seen['cache']![0]!).sort()).toEqual(['diskBytes', 'dropped', 'evictions', 'hits', 'ramBytes', 'restores', 'usedCells']);
    expect(seen['cache']!.at(-1)!['usedCells']).toBeLessThanOrEqual(cells.total);
    expect(sum('step', 'steps')).toBeGreaterThan(0);
    expect(sum('step', 'steps')).toBeLessThanOrEqual(small.stats().steps);
    expect(Object.keys(seen['step']![0]!).sort()).toEqual(['lastBatch', 'preemptions', 'queued', 'running', 'steps']);
    const told = seen['step']!.length;
    await talk(one, [asked[2]]);
    expect(seen['step']).toHaveLength(told);
    await small.dispose();
  });
});
