// A model that gives its memory back, and comes again when it is asked for.
import { execFileSync } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { loadModel, plan } from '../../dist/index.js';
import type { Chunk, LoadOptions, Model, Session } from '../../dist/index.js';
import type { NativeModel } from '../../dist/native.js';
import { Residence } from '../../dist/residence.js';

const dense = 'models/tern-5m-tq2_0.gguf';
const hybrid = 'models/tern-hybrid-random.gguf';
const mixture = 'models/tern-moe-6m-tq2_0.gguf';
const greedy = { temperature: 0, maxTokens: 12 } as const;
const folder = mkdtempSync(join(tmpdir(), 'ternion-unload-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const open = (options: LoadOptions = {}, path = dense) => loadModel(path, { devices: ['cpu'], context: 2048, cache: { ramBytes: 64 << 20 }, ...options });
const until = async (what: () => boolean, ms = 5000) => {
  const end = performance.now() + ms;
  while (!what() && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(what()).toBe(true);
};
async function all(chunks: AsyncIterable<Chunk>): Promise<Chunk[]> {
  const list: Chunk[] = [];
  for await (const chunk of chunks) list.push(chunk);
  return list;
}
/** Two turns of a conversation, with something in between. */
async function twoTurns(model: Model, between: () => Promise<unknown>) {
  const session = await model.session({ system: 'You tell stories.' });
  const first = await session.chat('Tell me of a dog.', greedy);
  await between();
  const second = await session.chat('And of a cat?', greedy);
  return { texts: [first.text, second.text], cached: second.usage.cached, prompt: second.usage.prompt };
}

describe('unload', () => {
  test.each([['dense', dense], ['hybrid', hybrid]])('%s: a conversation goes on as if nothing had been, without being prefilled', async (_, path) => {
    const model = await open({}, path);
    const expected = await twoTurns(model, () => Promise.resolve());
    const found = await twoTurns(model, async () => {
      await model.trimCache();
      const { ms, devices, expectedLoadMs } = await model.unload();
      expect(model.loaded).toBe(false);
      expect(ms).toBeGreaterThan(0);
      expect(expectedLoadMs).toBe(model.expectedLoadMs);
      const [place] = model.placement.devices;
      expect(devices).toMatchObject([{ device: 'cpu', bytes: place!.weightBytes + place!.kvBytes + place!.stateBytes + place!.computeBytes }]);
      expect(model.cache).toMatchObject({ cells: { used: 0 }, sessions: { resident: 0 }, prefixes: [] });
    });
    expect(model.loaded).toBe(true);
    expect(found.texts).toEqual(expected.texts);
    expect(found.cached).toBeGreaterThan(found.prompt / 2);
    await model.dispose();
  }, 60_000);

  test('without room for state the conversation is prefilled again, to the same text', async () => {
    const model = await open({ cache: { ramBytes: 0 } });
    const expected = await twoTurns(model, () => Promise.resolve());
    const found = await twoTurns(model, () => model.unload());
    expect(found.texts).toEqual(expected.texts);
    expect(found.cached).toBe(0);
    await model.dispose();
  });

  test('gives the memory back, of which the system knows', () => {
    const child = `
      import { loadModel } from ${JSON.stringify(join(process.cwd(), 'dist/index.js'))};
      const model = await loadModel(process.argv[1], { devices: ['cpu'], context: 2048, kvTokens: 60000, sequences: 2, packCache: false });
      const session = await model.session();
      await session.complete('Once', { maxTokens: 3 });
      const before = process.memoryUsage.rss();
      const { devices } = await model.unload();
      const after = process.memoryUsage.rss();
      console.log(JSON.stringify({ devices, kv: model.placement.devices[0].kvBytes, gone: before - after }));
      await model.dispose();`;
    const { devices: [place], kv, gone } = JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', child, dense], { encoding: 'utf8' })) as { devices: { returnedBytes: number; source: string }[]; kv: number; gone: number };
    expect(kv).toBeGreaterThan(100 << 20);
    expect(gone).toBeGreaterThan(0.97 * kv);
    expect(place!.source).toBe('process');
    expect(place!.returnedBytes).toBeGreaterThan(0.97 * kv);
  });

  test('everything that needs the model loads it, once for all who wait', async () => {
    const model = await open();
    const tokens = await model.tokenize('Once upon a time');
    const other = await model.session();
    for (const ask of [
      () => model.tokenize('Once'), () => model.detokenize(tokens), () => model.render([{ role: 'user', content: 'Hi' }]), () => model.logits(tokens), () => model.score(tokens),
      () => other.fork(), () => other.snapshot(), async () => (await model.session()).complete('Once', greedy), async () => (await model.prime([{ role: 'system', content: 'A' }])).dispose(),
    ]) {
      await model.unload();
      await ask();
      expect(model.loaded).toBe(true);
    }
    await model.unload();
    const [a, b] = await Promise.all([other.complete('Once upon a time', greedy), (await model.session()).complete('Once upon a time', greedy)]);
    expect(a.text).toBe(b.text);
    expect(model.stats().requests).toBe(2);
    await model.dispose();
  }, 60_000);

  test('a session of an unloaded model keeps what it says; what asks nothing of the model does not load it', async () => {
    const model = await open();
    const session = await model.session();
    await session.chat('Hello', greedy);
    const [used, steps] = [session.usedTokens, model.stats().steps];
    await model.unload();
    expect([session.usedTokens, session.messages.length, model.stats().steps]).toEqual([used, 2, steps]);
    const fresh = await model.session({ system: 'x' });
    await model.trimCache();
    session.rewind(0);
    await fresh.dispose();
    await session.dispose();
    expect(model.loaded).toBe(false);
    await model.dispose();
  });

  test('a primed prefix is there again', async () => {
    const model = await open({ cache: { ramBytes: 0 } });
    const messages = [{ role: 'system', content: 'You are a storyteller who speaks of dogs and cats and of nothing else.' }] as const;
    const prime = await model.prime(messages);
    await model.unload();
    const session = await model.session();
    await session.complete('x', { maxTokens: 1 });
    await until(() => model.stats().activeGenerations === 0 && model.cache.cells.used >= prime.tokens);
    const { usage } = await session.chat([...messages, { role: 'user', content: 'Hi' }], greedy);
    expect(usage.cached).toBeGreaterThanOrEqual(prime.tokens);
    await prime.dispose();
    await model.dispose();
  });

  test('a request that waits for the model says how long that is expected to take', async () => {
    const model = await open();
    const session = await model.session();
    await model.unload();
    const chunks = await all(session.complete('Once', greedy));
    expect(chunks[0]).toEqual({ type: 'loading', expectedMs: expect.any(Number) as number });
    expect((chunks[0] as { expectedMs: number }).expectedMs).toBeGreaterThan(0);
    expect(await all(session.complete('Once', greedy))).not.toContainEqual(expect.objectContaining({ type: 'loading' }));
    await model.dispose();
  });

  test('a plan of a file that was loaded here says how long that took', async () => {
    const path = join(folder, 'timed.gguf');
    copyFileSync(dense, path);
    const request = { devices: ['cpu'] } as const;
    expect(await plan(path, request)).not.toHaveProperty('expectedLoadMs');
    const model = await loadModel(path, request);
    await expect.poll(async () => (await plan(path, request)).expectedLoadMs).toBe(model.expectedLoadMs);
    expect((await plan.set([{ path, ...request }])).plans[0]!.expectedLoadMs).toBe(model.expectedLoadMs);
    await model.dispose();
    writeFileSync(path, readFileSync(hybrid));
    expect(await plan(path, request)).not.toHaveProperty('expectedLoadMs'); // another file by now
  });

  test('tells diagnostics channels', async () => {
    const seen: [string, unknown][] = [];
    const listen = (message: unknown, name: string | symbol) => seen.push([String(name), message]);
    for (const name of ['ternion:load', 'ternion:unload']) subscribe(name, listen);
    const model = await open();
    const unloaded = await model.unload();
    await model.tokenize('Once');
    for (const name of ['ternion:load', 'ternion:unload']) unsubscribe(name, listen);
    const load = { path: dense, devices: ['cpu'], ms: expect.any(Number) as number, placement: model.placement };
    expect(seen).toMatchObject([['ternion:load', { ...load, placement: {} }], ['ternion:unload', { path: dense, ...unloaded }], ['ternion:load', load]]);
    await model.dispose();
  });

  test('a plan is followed again, or what is missing by now is said', async () => {
    const found = await plan(dense, { devices: ['cpu'], context: 700, sequences: 3 });
    const model = await loadModel(dense, { plan: found });
    const session = await model.session();
    await model.unload();
    await session.complete('Once', greedy);
    expect(model.placement).toMatchObject({ context: 700, sequences: 3, planned: [{ device: 'cpu' }] });
    await model.dispose();
  });

  test('with a plan too, what it does not decide stays as it was asked for', async () => {
    const model = await loadModel(mixture, { plan: await plan(mixture, { devices: ['cpu'] }), countExperts: true });
    const before = model.experts!;
    await model.unload();
    await (await model.session()).complete('Once', greedy);
    expect(model.experts?.layers).toHaveLength(before.layers.length);
    expect(model.experts!.layers[0]!.tokens).toBeGreaterThan(0);
    await model.dispose();
  });
});

describe('hazards', () => {
  test('while something runs the model stays', async () => {
    const model = await open();
    const session = await model.session();
    const running = session.complete('Once', { maxTokens: 200, ignoreEos: true });
    expect(() => model.unload()).toThrow(expect.objectContaining({ code: 'ERR_BUSY' }) as Error);
    await running;
    const tokens = model.tokenize('Once');
    expect(() => model.unload()).toThrow(/requests run or wait \(1\)/);
    await tokens;
    await model.unload();
    await model.dispose();
  });

  test('while it is loaded again, twice, and after dispose', async () => {
    const model = await open();
    const session = await model.session();
    const first = model.unload();
    expect(model.unload()).toBe(first);
    await first;
    expect(await model.unload()).toMatchObject({ ms: 0, devices: [] });
    const waiting = session.complete('Once', greedy);
    expect(() => model.unload()).toThrow(expect.objectContaining({ code: 'ERR_BUSY' }) as Error);
    await waiting;
    await model.unload();
    await model.dispose();
    await model.dispose();
    expect(() => model.unload()).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }) as Error);
    expect(() => model.loaded).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }) as Error);
    expect(() => session.complete('Once')).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }) as Error);
  });

  test('a request during unload waits, and loads it again', async () => {
    const model = await open();
    const session = await model.session();
    const gone = model.unload();
    const { text } = await session.complete('Once upon a time', greedy);
    expect((await gone).devices).toHaveLength(1);
    expect(text).not.toBe('');
    await model.dispose();
  });

  test('dispose during unload, and while a request waits for the model', async () => {
    const first = await open();
    const gone = first.unload();
    await first.dispose();
    await gone;
    const second = await open();
    const session = await second.session();
    await second.unload();
    const waiting = session.complete('Once', greedy);
    const embedding = second.tokenize('Once');
    await Promise.all([second.dispose(), expect(waiting).rejects.toMatchObject({ code: 'ERR_ABORTED' }), expect(embedding).rejects.toMatchObject({ code: expect.stringMatching(/ERR_(ABORTED|DISPOSED)/) as string })]);
  });

  test('a session that is disposed while it waits takes its request along', async () => {
    const model = await open();
    const [session, other] = [await model.session(), await model.session()];
    await model.unload();
    const waiting = session.complete('Once', greedy);
    const snapshot = other.snapshot();
    await Promise.all([session.dispose(), other.dispose(), expect(waiting).rejects.toMatchObject({ code: 'ERR_ABORTED' }), expect(snapshot).rejects.toMatchObject({ code: 'ERR_DISPOSED' })]);
    await (await model.session()).complete('Once', greedy);
    expect(model.cache.sessions.open).toBe(1);
    await model.dispose();
  });

  test('a request that is aborted while it waits ends at once, and the model comes for others', async () => {
    const model = await open();
    const [session, other] = [await model.session(), await model.session()];
    await model.unload();
    const controller = new AbortController();
    const aborted = session.complete('Once', { ...greedy, signal: controller.signal });
    const staying = other.complete('Once', greedy);
    controller.abort(new Error('enough'));
    await expect(aborted).rejects.toMatchObject({ code: 'ERR_ABORTED', cause: { message: 'enough' } });
    expect((await staying).text).not.toBe('');
    expect((await session.complete('Once', greedy)).text).not.toBe('');
    await model.unload();
    await expect(model.score([1, 2, 3], { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    await model.dispose();
  });

  describe('aborted while its state comes back', () => {
    const prompt = 'Once upon a time there was a little mouse '.repeat(40);
    const short = { temperature: 0, maxTokens: 3 } as const;
    /** A session with state of a model that is unloaded, and a request of it that is aborted once `when` resolves. */
    async function abortedOnce(when: (model: Model) => Promise<unknown>) {
      const model = await open();
      const session = await model.session();
      const { text } = await session.complete(prompt, short);
      await model.unload();
      const controller = new AbortController();
      const aborted = session.complete(prompt, { ...short, maxTokens: 200, ignoreEos: true, signal: controller.signal });
      await when(model);
      controller.abort();
      return { model, session, aborted, text };
    }
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    const loaded = async (model: Model) => {
      while (!model.loaded) await turn();
    };
    const times: [string, (model: Model) => Promise<unknown>][] = [['at once', () => Promise.resolve()], ['a turn later', turn], ['when the model is there', loaded]];

    test.each(times)('%s: the next request of the session waits for it', async (_, when) => {
      for (let i = 0; i < 5; i++) {
        const { model, session, aborted, text } = await abortedOnce(when);
        await expect(aborted).rejects.toMatchObject({ code: 'ERR_ABORTED' });
        const again = await session.complete(prompt, short);
        expect(again.text).toBe(text);
        expect(again.usage.cached).toBeGreaterThan(again.usage.prompt / 2);
        await model.unload();
        await model.dispose();
      }
    });

    test('so do a fork and a snapshot, and the tokens are told', async () => {
      for (const ask of [(session: Session) => session.fork(), (session: Session) => session.snapshot()]) {
        const { model, session, aborted } = await abortedOnce(loaded);
        await aborted.catch(() => {});
        expect(session.usedTokens).toBeGreaterThan(100);
        await ask(session);
        await model.dispose();
      }
    });

    test('the model stays until it is back', async () => {
      const { model, session, aborted } = await abortedOnce(loaded);
      expect(() => model.unload()).toThrow(/requests run or wait \(1\)/);
      await aborted.catch(() => {});
      await session.dispose();
      await model.unload();
      await model.dispose();
    });

    test('the model or the session may be disposed meanwhile', async () => {
      for (const end of [(model: Model) => model.dispose(), (_: Model, session: Session) => session.dispose(), async (model: Model, session: Session) => void (await Promise.all([session.dispose(), model.dispose()]))]) {
        const { model, session, aborted } = await abortedOnce(loaded);
        const next = Promise.resolve(aborted).catch(() => session.complete(prompt, short)).catch(() => {});
        await turn();
        await Promise.all([end(model, session), next]);
        await expect((async () => session.complete(prompt, short))()).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
        await model.dispose();
      }
    });
  });

  test('a file that vanished, that is another, or that is damaged: said to who waits, and taken again when it is back', async () => {
    const path = join(folder, 'model.gguf');
    copyFileSync(dense, path);
    const model = await open({}, path);
    const session = await model.session();
    const { text } = await session.complete('Once upon a time', greedy);
    await model.unload();
    renameSync(path, `${path}.away`);
    await expect(session.complete('Once', greedy)).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_FOUND' });
    await expect(model.tokenize('Once')).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_FOUND' });
    copyFileSync('models/tern-draft-q8_0.gguf', path);
    await expect(session.complete('Once', greedy)).rejects.toMatchObject({ code: 'ERR_STATE_MISMATCH', details: { setting: 'model', path } });
    writeFileSync(path, 'no model');
    await expect(session.complete('Once', greedy)).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
    expect(model.loaded).toBe(false);
    rmSync(path);
    renameSync(`${path}.away`, path);
    expect((await session.complete('Once upon a time', greedy)).text).toBe(text);
    await model.dispose();
  });

  test('the event loop stays free', async () => {
    const model = await open({ kvTokens: 40_000 });
    const session = await model.session();
    let longest = 0;
    let last = performance.now();
    const timer = setInterval(() => { longest = Math.max(longest, performance.now() - last); last = performance.now(); }, 1);
    for (let i = 0; i < 5; i++) {
      await session.complete('Once', { ...greedy, maxTokens: 2 });
      await model.unload();
    }
    clearInterval(timer);
    expect(longest).toBeLessThan(100); // a load takes as long
    await model.dispose();
  });
});

describe('keepAlive', () => {
  const nothing = { placement: { devices: [] } } as unknown as NativeModel;
  const tenant = { load: () => Promise.reject(new Error('is not loaded here')), arrived: () => {}, leaving: () => Promise.resolve(), left: () => {} };
  const wait = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

  test('unloads a model that nobody needs, again and again, and not before', async () => {
    const model = await open({ keepAlive: 60 });
    expect(model.loaded).toBe(true);
    await until(() => !model.loaded);
    const session = await model.session();
    await session.complete('Once', { maxTokens: 1500, ignoreEos: true }); // longer than it is kept
    expect(model.loaded).toBe(true);
    expect(model.stats().requests).toBe(1);
    await until(() => !model.loaded);
    await model.dispose();
  });

  test('0 is at once, and without it a model stays', async () => {
    const model = await open({ keepAlive: 0 });
    const staying = await open();
    await until(() => !model.loaded);
    expect((await (await model.session()).complete('Once', greedy)).text).not.toBe('');
    await until(() => !model.loaded);
    expect(staying.loaded).toBe(true);
    await Promise.all([model.dispose(), staying.dispose()]);
    for (const keepAlive of [-1, 1.5, '5m', Infinity]) expect(() => open({ keepAlive: keepAlive as number })).toThrow(/keepAlive must be an integer of at least 0/);
  });

  test('goes on counting when those who asked for the model have given up', async () => {
    const model = await open({ keepAlive: 50 });
    const session = await model.session();
    for (const ask of [(signal: AbortSignal) => session.complete('Once', { ...greedy, signal }), (signal: AbortSignal) => model.score([1, 2, 3], { signal })]) {
      await until(() => !model.loaded);
      await model.unload(); // no more than waits for it
      const controller = new AbortController();
      const asked = expect(ask(controller.signal)).rejects.toMatchObject({ code: 'ERR_ABORTED' });
      await Promise.resolve();
      controller.abort();
      await asked;
      await until(() => model.loaded); // loading goes on
    }
    await until(() => !model.loaded);
    await model.dispose();
  });

  test('an unload that failed is tried again, but not at once', async () => {
    let ended = 0;
    const residence = new Residence(nothing, 1, 0, { ...tenant, end: () => (++ended === 1 ? Promise.reject(new Error('not now')) : Promise.resolve()) });
    await until(() => ended === 1);
    await wait(100);
    expect([ended, residence.here]).toEqual([1, nothing]);
    await until(() => ended === 2);
    await residence.unload();
    expect(residence.here).toBeUndefined();
    await residence.dispose();
  });

  test('does not run out while the model is loaded again', async () => {
    const load = () => Promise.resolve({ promise: wait(100).then(() => nothing), cancel: () => {} });
    const residence = new Residence(nothing, 1, 10, { ...tenant, load, end: () => wait(50) });
    const unloaded = residence.unload();
    const controller = new AbortController();
    const asked = expect(residence.run(controller.signal, () => Promise.resolve())).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    await wait(45);
    controller.abort(); // nobody needs the model, which is still there
    await Promise.all([asked, unloaded]);
    await until(() => residence.here !== undefined);
    await until(() => residence.here === undefined);
    await residence.dispose();
  });

  test('keeps no process alive, and survives a dispose', () => {
    const child = `
      import { loadModel } from ${JSON.stringify(join(process.cwd(), 'dist/index.js'))};
      const model = await loadModel(process.argv[1], { devices: ['cpu'], context: 256, keepAlive: 100000 });
      const other = await loadModel(process.argv[1], { devices: ['cpu'], context: 256, keepAlive: 20 });
      await other.dispose();
      await new Promise((resolve) => setTimeout(resolve, 60));
      console.log('end');`;
    const begin = performance.now();
    expect(execFileSync(process.execPath, ['--input-type=module', '-e', child, dense], { encoding: 'utf8', timeout: 30_000 })).toBe('end\n');
    expect(performance.now() - begin).toBeLessThan(20_000);
  });
});
