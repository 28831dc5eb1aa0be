import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Snapshot } from '../../dist/index.js';
import type { Model, Session } from '../../dist/index.js';
import { afresh, asked, dense, facts, failure, greedy, hybrid, open, said, system, talk, twin, user } from './conversation.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-'));
const file = (name: string) => join(folder, name);
let model: Model;
let session: Session;
let used: number;

beforeAll(async () => {
  model = await open({ sequences: 2 });
});
beforeEach(async () => {
  session = await model.session({ system, sampling: greedy });
  await talk(session, [facts]);
  used = session.usedTokens;
});
afterEach(async () => {
  await session.dispose();
  await model.trimCache();
  expect(model.cache).toMatchObject({ cells: { used: 0 }, sequences: { used: 0 }, sessions: { open: 0 } });
});
afterAll(async () => {
  await model.dispose();
  rmSync(folder, { recursive: true });
});

/** The session says what it would have said, and then is what it was. */
async function expectUntouched(): Promise<void> {
  expect(session.messages).toHaveLength(3);
  const { text, usage } = await session.chat(asked[1]);
  expect([text, usage.cached >= used]).toEqual([said[1], true]);
}

describe('a snapshot', () => {
  test('holds nothing that was taken back', async () => {
    await talk(session, ['Remember: the secret word is mushroom.']);
    session.rewind(-2);
    const snapshot = await session.snapshot();
    expect(snapshot.messages).toEqual(session.messages);
    expect(Buffer.from(await snapshot.serialize()).includes('mushroom')).toBe(false);
    expect(snapshot.tokens).toBeLessThanOrEqual(used + 8);
    const other = await model.session({ from: snapshot, sampling: greedy });
    const { text, usage } = await other.chat(asked[1]);
    expect([text, usage.cached >= used - 8]).toEqual([said[1], true]);
    await other.dispose();
    await expectUntouched();
  });

  test('says what it is', async () => {
    const snapshot = await session.snapshot();
    expect(snapshot.messages).toEqual(session.messages);
    expect(snapshot.fingerprint).toMatch(/^[0-9a-f]{32}$/);
    expect(snapshot.tokens).toBeGreaterThanOrEqual(used);
    expect(snapshot.bytes).toBeGreaterThan(snapshot.tokens * model.cache.cells.bytesEach * 0.9);
    await snapshot.dispose();
    await expectUntouched();
  });

  test.each(['as it is', 'by a file', 'by bytes'])('comes back %s, and goes on without prefill', async (way) => {
    let snapshot = await session.snapshot();
    if (way === 'by a file') {
      await snapshot.save(file('a.state'));
      expect(readdirSync(folder)).toEqual(['a.state']);
      expect(statSync(file('a.state')).size).toBe(snapshot.bytes);
      expect(Buffer.compare(readFileSync(file('a.state')), await snapshot.serialize())).toBe(0);
      await snapshot.dispose();
      snapshot = await Snapshot.load(file('a.state'));
    } else if (way === 'by bytes') {
      const bytes = await snapshot.serialize();
      expect([bytes.length, bytes.buffer.byteLength]).toEqual([snapshot.bytes, snapshot.bytes]);
      snapshot = await Snapshot.deserialize(bytes);
    }
    const roomy = await open({ sequences: 3, kvTokens: 2000 }); // how large the pool is does not matter
    const other = await roomy.session({ from: snapshot, sampling: greedy });
    expect(other.messages).toEqual(session.messages);
    expect(other.usedTokens).toBe(snapshot.tokens);
    const { text, usage } = await other.chat(asked[1]);
    expect(text).toBe(said[1]);
    expect(usage.cached).toBe(snapshot.tokens);
    expect(await talk(other, asked.slice(2))).toEqual(said.slice(2));
    await roomy.dispose();
  });

  test.each([dense, hybrid])('goes on in another process: %s', async (path) => {
    const own = await open({}, path);
    const session = await own.session();
    await session.chat(facts, { ...greedy, grammar: `root ::= "${said[0]}"` }); // the hybrid's own words are spaces and bytes that a message does not keep
    const snapshot = await session.snapshot();
    await snapshot.save(file('b.state'));
    const here = await session.chat(asked[1], { ...greedy, maxTokens: 20 });
    const output = execFileSync(process.execPath, ['test/api/continue.mjs', path, file('b.state'), asked[1]], { encoding: 'utf8' });
    const there = JSON.parse(output) as { text: string; usage: { cached: number }; messages: unknown; fingerprint: string };
    expect(there.text).toBe(here.text);
    if (path === dense) expect(there.text).toBe(said[1]);
    expect([there.usage.cached, here.usage.cached]).toEqual([snapshot.tokens, snapshot.tokens]);
    expect(there.messages).toEqual(snapshot.messages);
    expect(there.fingerprint).toBe(snapshot.fingerprint);
    await own.dispose();
  });

  test('restored in place of another conversation, twice; the cells of a common beginning are shared', async () => {
    const snapshot = await session.snapshot();
    const other = await model.session({ sampling: greedy });
    await talk(other, ['What is 3 + 4?']);
    for (let round = 0; round < 2; round++) {
      await other.restore(snapshot);
      expect(other.messages).toEqual(session.messages);
      expect(model.cache.cells.used).toBe(session.usedTokens);
      expect(await talk(other, asked.slice(1, 3))).toEqual(said.slice(1, 3));
    }
    await other.dispose();
    await expectUntouched();
  });

  test('of a session without tokens, and of one with messages alone', async () => {
    for (const options of [{}, { system }]) {
      const empty = await model.session(options);
      const snapshot = await Snapshot.deserialize(await (await empty.snapshot()).serialize());
      expect(snapshot.tokens).toBe(0);
      const other = await model.session({ from: snapshot });
      expect(other.messages).toEqual(empty.messages);
      expect(other.usedTokens).toBe(0);
      expect(await talk(other, [facts])).toEqual([said[0]]);
      await Promise.all([empty.dispose(), other.dispose()]);
    }
  });

  test('of a completion: the tokens without messages', async () => {
    const one = await model.session();
    const begin = 'Once upon a time, there was a tiny fox';
    await one.complete(begin, { maxTokens: 0 });
    const other = await model.session({ from: await one.snapshot() });
    await one.dispose();
    await model.trimCache();
    expect(other.messages).toEqual([]);
    const { usage } = await other.complete(begin, { ...greedy, maxTokens: 4 });
    expect(usage.cached).toBe(usage.prompt - 1);
    await other.dispose();
  });

  test.each([
    ['put away', {}],
    ['dropped', { ramBytes: 0 }],
  ])('of a session whose state was %s', async (state, cache) => {
    const small = await open({ sequences: 2, context: 256, kvTokens: 256, cache });
    const one = await small.session({ system });
    await talk(one, [facts]);
    const other = await small.session();
    await other.complete('The old bear', { ...greedy, ignoreEos: true, maxTokens: 230 });
    expect(small.cache).toMatchObject({ evictions: 1, restores: 0 });
    const before = small.stats().prefillTokens;
    const snapshot = await one.snapshot();
    expect(snapshot.tokens).toBeGreaterThanOrEqual(used);
    expect(small.stats().prefillTokens - before > 10).toBe(state === 'dropped');
    expect(small.cache.restores).toBe(state === 'dropped' ? 0 : 1);
    const back = await model.session({ from: snapshot });
    expect(await talk(back, asked.slice(1))).toEqual(said.slice(1));
    await Promise.all([back.dispose(), small.dispose()]);
  });
});

describe('a setting that differs is refused by name', () => {
  test.each([
    ['another model', { context: 512 }, twin, 'model'],
    ['another type of keys', { context: 512, kv: { k: 'q8_0', v: 'f16' } as const }, dense, 'kv.k'],
    ['another type of values', { context: 512, kv: { k: 'f16', v: 'f32' } as const }, dense, 'kv.v'],
    ['a context that is too small', { context: 32 }, dense, 'context'],
  ])('%s', async (_, options, path, setting) => {
    const snapshot = await session.snapshot();
    const other = await open(options, path);
    const error = await failure(other.session({ from: snapshot }));
    expect(error.code).toBe('ERR_STATE_MISMATCH');
    const values = {
      model: [snapshot.fingerprint, expect.stringMatching(/^[0-9a-f]{32}$/) as string],
      'kv.k': ['f16', 'q8_0'],
      'kv.v': ['f16', 'f32'],
      context: [snapshot.tokens, 32],
    }[setting]!;
    expect(error.details).toEqual({ setting, found: values[0], expected: values[1] });
    expect(other.cache).toMatchObject({ sessions: { open: 0 }, cells: { used: 0 } });
    await other.dispose();
  });

  test('and the session stays what it was', async () => {
    const other = await open({ context: 256 }, twin);
    const foreign = await other.session();
    await talk(foreign, ['What is 3 + 4?']);
    const snapshot = await foreign.snapshot();
    expect((await failure(session.restore(snapshot))).code).toBe('ERR_STATE_MISMATCH');
    await other.dispose();
    await expectUntouched();
    await snapshot.save(file('c.state')); // it outlives its model
    expect((await Snapshot.load(file('c.state'))).messages).toEqual(snapshot.messages);
  });
});

describe('the text of an answer does not depend on the way', () => {
  test('restored, evicted, afresh', async () => {
    const messages = [...session.messages, user(asked[3])];
    const other = await model.session({ from: await session.snapshot() });
    expect(await talk(other, [asked[3]])).toEqual([said[3]]);
    await other.dispose();
    const second = await open();
    expect(await afresh(second, messages)).toBe(said[3]);
    await second.dispose();
  });
});
