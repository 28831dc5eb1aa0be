import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Snapshot, isTernionError } from '../../dist/index.js';
import type { Model, Session } from '../../dist/index.js';
import { asked, failure, facts, greedy, open, said, system, talk } from './conversation.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-'));
const file = (name: string) => join(folder, name);
let model: Model;
let session: Session;
let snapshot: Snapshot;
let bytes: Uint8Array;

beforeAll(async () => {
  model = await open({ sequences: 2, context: 2048 });
  session = await model.session({ system, sampling: greedy });
  await talk(session, [facts]);
  snapshot = await session.snapshot();
  bytes = await snapshot.serialize();
});
beforeEach(() => {
  expect(session.messages).toHaveLength(3);
});
afterAll(async () => {
  await model.dispose();
  rmSync(folder, { recursive: true });
});

const changed = (at: number) => {
  const copy = Uint8Array.from(bytes);
  copy[at < 0 ? copy.length + at : at]! ^= 0x10;
  return copy;
};

describe('damaged bytes', () => {
  test.each([
    ['none', () => new Uint8Array()],
    ['too few for a head', () => bytes.slice(0, 35)],
    ['half of them', () => bytes.slice(0, bytes.length >> 1)],
    ['all but one', () => bytes.slice(0, -1)],
    ['one more', () => Uint8Array.from([...bytes, 0])],
    ['something else', () => new TextEncoder().encode('{"messages":[]}'.repeat(50))],
    ['the first changed', () => changed(0)],
    ['one of the head changed', () => changed(100)],
    ['the last changed', () => changed(-1)],
    ['one in the midst of the state changed', () => changed(bytes.length >> 1)],
  ])('%s', async (_, make) => {
    const error = await failure(Snapshot.deserialize(make()));
    expect(error.code).toBe('ERR_STATE_CORRUPT');
    expect(error.message).not.toBe('');
    writeFileSync(file('bad'), make());
    const fromFile = await failure(Snapshot.load(file('bad')));
    expect([fromFile.code, fromFile.details['path']]).toEqual(['ERR_STATE_CORRUPT', file('bad')]);
  });

  test('a copy of sound ones that lies within others is read', async () => {
    const around = new Uint8Array(bytes.length + 20);
    around.set(bytes, 10);
    expect((await Snapshot.deserialize(around.subarray(10, -10))).messages).toEqual(session.messages);
    expect((await Snapshot.deserialize(Buffer.from(bytes))).messages).toEqual(session.messages);
  });

  test('what was changed after the call does not matter', async () => {
    const copy = Uint8Array.from(bytes);
    const reading = Snapshot.deserialize(copy);
    copy.fill(0);
    expect((await reading).tokens).toBe(snapshot.tokens);
  });
});

describe('files', () => {
  test('that are missing, folders, or cannot be written', async () => {
    for (const path of [file('none'), folder]) {
      const error = await failure(Snapshot.load(path));
      expect([error.code, error.details['path']]).toEqual(['ERR_IO', path]);
    }
    const before = readdirSync(folder);
    const error = await failure(snapshot.save(join(folder, 'no', 'such', 'folder')));
    expect(error.code).toBe('ERR_IO');
    expect(readdirSync(folder)).toEqual(before);
  });

  test('that are there already are replaced', async () => {
    writeFileSync(file('old'), 'something');
    await snapshot.save(file('old'));
    expect((await Snapshot.load(file('old'))).tokens).toBe(snapshot.tokens);
    expect(readdirSync(folder).filter((name) => name.endsWith('.partial'))).toEqual([]);
  });
});

describe('arguments', () => {
  const invalid = expect.objectContaining({ code: 'ERR_INVALID_ARG' }) as Error;
  test('are refused by name', async () => {
    expect(() => Snapshot.load(5 as never)).toThrow(invalid);
    expect(() => Snapshot.deserialize('x' as never)).toThrow(invalid);
    expect(() => Snapshot.deserialize([1, 2] as never)).toThrow(invalid);
    await expect(snapshot.save(undefined as never)).rejects.toEqual(invalid);
    for (const value of [undefined, {}, bytes, { tokens: 1 }]) await expect(session.restore(value as never)).rejects.toEqual(invalid);
    await expect(session.restore(snapshot, { sygnal: 1 } as never)).rejects.toThrow(/did you mean "signal"/);
    await expect(session.snapshot({ signal: 5 } as never)).rejects.toEqual(invalid);
    await expect(model.session({ from: {} as never })).rejects.toEqual(invalid);
    expect(() => void Reflect.construct(Snapshot, [{}])).toThrow();
  });

  test('system and from exclude one another', async () => {
    const error = await failure(model.session({ system, from: snapshot }));
    expect(error.code).toBe('ERR_INVALID_ARG');
    expect(error.message).toMatch(/options\.system.*options\.from/);
    expect(model.cache.sessions.open).toBe(1);
  });
});

describe('ends', () => {
  test('a snapshot that was disposed; twice is once', async () => {
    const own = await session.snapshot();
    await own.dispose();
    await own.dispose();
    expect(own.tokens).toBe(snapshot.tokens); // what it was stays known
    for (const use of [() => own.serialize(), () => own.save(file('gone')), () => session.restore(own), () => model.session({ from: own })]) {
      expect((await failure(use())).code).toBe('ERR_DISPOSED');
    }
    expect(existsSync(file('gone'))).toBe(false);
    expect(model.cache.sessions.open).toBe(1);
  });

  test('disposed while it is written and restored: both come to their end', async () => {
    const own = await session.snapshot();
    const other = await model.session();
    const [writing, restoring] = [own.serialize(), other.restore(own)];
    await own.dispose();
    expect((await writing).length).toBe(bytes.length);
    await restoring;
    expect(await talk(other, [asked[1]], greedy)).toEqual([said[1]]);
    await other.dispose();
  });

  test('a session that works, and one that was disposed', async () => {
    const other = await model.session();
    const running = other.complete('Once', { ...greedy, ignoreEos: true });
    expect((await failure(other.snapshot())).code).toBe('ERR_BUSY');
    expect((await failure(other.restore(snapshot))).code).toBe('ERR_BUSY');
    await running.cancel();
    const capturing = other.snapshot();
    expect(() => other.chat('x')).toThrow(expect.objectContaining({ code: 'ERR_BUSY' }));
    expect((await failure(other.fork())).code).toBe('ERR_BUSY');
    await capturing;
    await other.dispose();
    expect((await failure(other.snapshot())).code).toBe('ERR_DISPOSED');
    expect((await failure(other.restore(snapshot))).code).toBe('ERR_DISPOSED');
  });

  test('a session that is disposed meanwhile, and a model', async () => {
    const own = await open({ context: 2048, sequences: 2 });
    const settled = async (promise: Promise<unknown>) =>
      promise.then(() => 'done', (error: unknown) => (isTernionError(error) ? error.code : String(error)));
    for (const which of ['session', 'model'] as const) {
      const one = await own.session({ from: snapshot });
      const two = await own.session();
      const outcomes = [settled(one.snapshot()), settled(two.restore(snapshot))];
      await (which === 'model' ? own.dispose() : Promise.all([one.dispose(), two.dispose()]));
      for (const outcome of await Promise.all(outcomes)) expect(['done', 'ERR_ABORTED', 'ERR_DISPOSED']).toContain(outcome);
    }
  });
});

describe('signals', () => {
  test('that were aborted before: nothing happens', async () => {
    const signal = AbortSignal.abort('no');
    for (const start of [() => session.snapshot({ signal }), () => session.restore(snapshot, { signal })]) {
      const error = await failure(start());
      expect([error.code, error.cause]).toEqual(['ERR_ABORTED', 'no']);
    }
    expect(await talk(session, [asked[1]])).toEqual([said[1]]);
    session.rewind(-2);
  });

  test('that abort a capture that has to prefill', async () => {
    const small = await open({ context: 2048, kvTokens: 2048, cache: { ramBytes: 0 } });
    const one = await small.session();
    await one.complete('The fox looked at the river. '.repeat(200), { maxTokens: 0 });
    const two = await small.session();
    await two.complete('One bear, two bears. '.repeat(200), { maxTokens: 0 });
    expect(small.cache).toMatchObject({ evictions: 1, dropped: 1, ram: { bytes: 0 } });
    const abort = new AbortController();
    const capturing = failure(one.snapshot({ signal: abort.signal }));
    abort.abort(new Error('enough'));
    const error = await capturing;
    expect([error.code, (error.cause as Error).message]).toEqual(['ERR_ABORTED', 'enough']);
    expect((await one.snapshot()).tokens).toBeGreaterThan(1000); // it is still what it was
    await small.dispose();
  });
});
