import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { setTimeout as wait } from 'node:timers/promises';
import { isTernionError, loadModel } from '../../dist/index.js';
import { asked, greedy, said } from './conversation.js';
import type { Generation, Model, Session } from '../../dist/index.js';

const path = 'models/tern-5m-tq2_0.gguf';
const endless = { ignoreEos: true, temperature: 0 };
const long = 'The fox looked at the river. '.repeat(200);

const code = async (promise: PromiseLike<unknown>) =>
  Promise.resolve(promise).then(
    () => 'no error',
    (error: unknown) => (isTernionError(error) ? error.code : String(error)),
  );

/** Each state that a generation can be in, reached on a model with one sequence. Wrapped: a promise would await it. */
const states: Record<string, (model: Model, session: Session, signal: AbortSignal) => Promise<{ generation: Generation }>> = {
  'just started': (_, session, signal) => Promise.resolve({ generation: session.complete('Once', { ...endless, signal }) }),
  'queued behind another session': async (model, session, signal) => {
    const other = await model.session();
    const running = other.complete('Once', endless);
    for await (const chunk of running.text()) {
      const queued = session.complete('Once', { ...endless, signal });
      void Promise.resolve(queued).catch(() => running.cancel()); // the other one only has to outlive the queued one
      expect(chunk).not.toBe('');
      await wait(30);
      return { generation: queued };
    }
    throw new Error('unreachable');
  },
  'preparing its text': (_, session, signal) => Promise.resolve({ generation: session.chat(long.repeat(100), { ...endless, signal }) }),
  prefilling: async (_, session, signal) => {
    const generation = session.complete(long, { ...endless, signal });
    void generation.then(undefined, () => {});
    for await (const chunk of generation) if (chunk.type === 'progress') break;
    return { generation };
  },
  decoding: async (_, session, signal) => {
    const generation = session.complete('Once', { ...endless, signal });
    void generation.then(undefined, () => {});
    for await (const chunk of generation) if (chunk.type === 'text') break;
    return { generation };
  },
};

describe.each(Object.keys(states))('%s', (state) => {
  let model: Model;
  let session: Session;
  const abort = new AbortController();
  const start = () => states[state]!(model, session, abort.signal);

  beforeAll(async () => {
    model = await loadModel(path, { devices: ['cpu'], context: 2048, sequences: 1 });
    session = await model.session();
  });
  afterAll(() => model.dispose());

  test('cancel', async () => {
    const { generation } = await start();
    await Promise.all([generation.cancel(), generation.cancel()]);
    expect(await code(generation)).toBe('ERR_ABORTED');
    expect((await session.complete('Once', { ...endless, maxTokens: 3 })).usage.generated).toBe(3); // the session lives on
  });

  test('abort by signal', async () => {
    const { generation } = await start();
    abort.abort();
    expect(await code(generation)).toBe('ERR_ABORTED');
  });

  test('dispose the session, twice', async () => {
    const doomed = await model.session();
    const { generation } = await states[state]!(model, doomed, new AbortController().signal);
    await Promise.all([doomed.dispose(), doomed.dispose()]);
    expect(await code(generation)).toBe('ERR_ABORTED');
    expect(() => doomed.chat('x')).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
    expect((await session.complete('Once', { ...endless, maxTokens: 3 })).usage.generated).toBe(3);
  });

  test('dispose the model, twice', async () => {
    const { generation } = await states[state]!(model, session, new AbortController().signal);
    await Promise.all([model.dispose(), model.dispose()]);
    expect(await code(generation)).toBe('ERR_ABORTED');
    expect(() => session.chat('x')).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
    expect(await code(model.tokenize('x'))).toBe('ERR_DISPOSED');
  });
});

describe('after the end', () => {
  let model: Model;
  beforeAll(async () => void (model = await loadModel(path, { devices: ['cpu'], context: 512, sequences: 4 })));
  afterAll(() => model.dispose());

  test('an abort before the start is one, and nothing was asked', async () => {
    const session = await model.session();
    const { requests } = model.stats();
    expect(await code(session.chat('x', { signal: AbortSignal.abort() }))).toBe('ERR_ABORTED');
    expect(model.stats().requests).toBe(requests);
    expect(session.messages).toEqual([]);
    await session.dispose();
  });

  test('neither cancel nor abort nor dispose takes away what was said', async () => {
    const abort = new AbortController();
    const session = await model.session();
    const generation = session.chat('Hello', { ...endless, maxTokens: 5, signal: abort.signal });
    const { text } = await generation;
    abort.abort();
    await generation.cancel();
    expect((await generation).text).toBe(text);
    await Promise.all([session.dispose(), session.dispose()]);
    await generation.cancel();
    expect((await generation).text).toBe(text);
    expect(session.messages.at(-1)).toEqual({ role: 'assistant', content: text });
  });

  test('sessions that go leave those beside them as they were', async () => {
    const staying = await model.session();
    for (const [i, question] of asked.entries()) {
      const generation = staying.chat(question, greedy);
      const going = await model.session();
      const other = going.complete(`${i} birds`, endless);
      void other.then(undefined, () => {});
      for await (const chunk of other) if (chunk.type === 'text') break;
      if (i % 2 === 0) await other.cancel();
      await going.dispose();
      expect(await code(other)).toBe('ERR_ABORTED');
      expect((await generation).text).toBe(said[i]);
    }
    await staying.dispose();
  });
});

describe('loading', () => {
  test('aborted before and during', async () => {
    expect(await code(loadModel(path, { signal: AbortSignal.abort() }))).toBe('ERR_ABORTED');
    const abort = new AbortController();
    const loading = loadModel(path, { devices: ['cpu'], signal: abort.signal, onProgress: () => abort.abort('enough') });
    const error: unknown = await loading.catch((e: unknown) => e);
    expect(isTernionError(error, 'ERR_ABORTED') && error.cause).toBe('enough');
  });

  test('many at once, disposed at once', async () => {
    const models = await Promise.all(Array.from({ length: 6 }, () => loadModel(path, { devices: ['cpu'], context: 256 })));
    const texts = await Promise.all(
      models.map(async (model) => (await (await model.session()).complete('Once', { ...endless, maxTokens: 20 })).text),
    );
    expect(new Set(texts).size).toBe(1);
    await Promise.all(models.map((model) => model.dispose()));
  });

  test('with more threads than an earlier one leaves that one working', async () => {
    const one = await loadModel(path, { devices: ['cpu'], context: 256, threads: 1 });
    const session = await one.session();
    const alone = await session.complete('Once', { ...endless, maxTokens: 20 });
    const others = [];
    for (const threads of [2, 3]) {
      others.push(await loadModel(path, { devices: ['cpu'], context: 256, threads }));
      await others.at(-1)!.embed(['a fox']);
      expect((await session.complete('Once', { ...endless, maxTokens: 20 })).text).toBe(alone.text);
    }
    await Promise.all([one, ...others].map((model) => model.dispose()));
  });

  test('a KV type that needs flash attention, or does not exist, works or says so', async () => {
    const model = await loadModel(path, { devices: ['cpu'], context: 256, kv: 'q8_0' });
    expect((await (await model.session()).complete('Once upon', { ...endless, maxTokens: 10 })).usage.generated).toBe(10);
    await model.dispose();
    expect(() => loadModel(path, { kv: 'q9_9' } as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG' }));
  });
});

describe('a busy main thread', () => {
  test('does not stop the engine, and loses nothing', async () => {
    const model = await loadModel(path, { devices: ['cpu'], context: 2048 });
    const session = await model.session();
    const generation = session.complete('Once', { ...endless, maxTokens: 400 });
    void generation.then(undefined, () => {});
    const end = performance.now() + 700;
    while (performance.now() < end);
    // Nothing of JavaScript ran: what is there now, the engine did meanwhile.
    expect(model.stats().decodeTokens).toBeGreaterThan(100);
    const { text, usage } = await generation;
    expect(usage.generated).toBe(400);
    expect(text).toBe((await session.complete('Once', { ...endless, maxTokens: 400 })).text);
    await model.dispose();
  });

  test('a reader that does not pull parks its own session, without using the CPU', async () => {
    const model = await loadModel(path, { devices: ['cpu'], context: 2048, sequences: 2 });
    const [slow, fast, queued] = [await model.session(), await model.session(), await model.session()];
    // Log probabilities fill the ring (64 KB) within the context.
    const endlessly = { ...endless, logprobs: 4, maxTokens: 1000 };
    const parked = slow.complete('Once', endlessly);
    const iterator = parked[Symbol.asyncIterator]();
    await iterator.next();
    expect((await fast.complete('The bear', { ...endless, maxTokens: 200 })).usage.generated).toBe(200);
    await wait(300);
    const before = model.stats().decodeTokens;
    expect(before).toBeLessThan(800);

    // Both sequences are parked now, and a third session waits for one of them.
    const other = fast.complete('Once', endlessly)[Symbol.asyncIterator]();
    await other.next();
    const third = queued.complete('The fox', { ...endless, maxTokens: 5 });
    await wait(300);
    const cpu = process.cpuUsage();
    await wait(400);
    const { user, system } = process.cpuUsage(cpu);
    expect(user + system).toBeLessThan(100_000);

    let tokens = 0;
    for (let step = await iterator.next(); step.done !== true; step = await iterator.next()) {
      if (step.value.type === 'logprobs') tokens += step.value.logprobs.length;
    }
    expect((await parked).usage.generated).toBe(1000);
    expect(tokens).toBeGreaterThan(900);
    expect((await third).usage.generated).toBe(5);
    await other.return?.();
    await model.dispose();
  });
});
