#!/usr/bin/env node
// npm run stress: many sessions at once, each of which does one thing after another at random: asks, aborts, forks, captures, restores, ends.
// What is asked has an answer of which the model is sure, whatever the batch, so every answer that comes to its end has to be that one.
//
//   npm run stress -- [--minutes N] [--sessions N] [--seed N] [--asan] [--output FILE]
//
// At the end every promise is settled, no session is left, and memory is what it was before. Ends with 1 and the seed otherwise. --asan: with the
// addon of `npm run test:asan`, which has to be built. --output: what was done goes there, beside what the file has of a run of the other kind.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { getHeapStatistics } from 'node:v8';

import { ask as sayOf } from '../../scripts/run.mjs';
import { asanNodeEnvironment } from '../../scripts/sanitize.mjs';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '5' },
    sessions: { type: 'string', default: '200' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    asan: { type: 'boolean', default: false },
    output: { type: 'string' },
    child: { type: 'boolean', default: false },
  },
});
const [minutes, count, seed] = [values.minutes, values.sessions, values.seed].map(Number);
const most = 4 * 2 ** 20;

// The answers of test/api/conversation.ts.
const asked = [
  'Please remember: Rosa lives in Athens. The yellow card opens box 12. The hamster of Rufus is called Steasbrushhesh.',
  'What is the hamster of Rufus called?', 'Where does Rosa live?', 'Which box does the yellow card open?',
];
const said = ['I will remember that.', 'The hamster of Rufus is called Steasbrushhesh.', 'Rosa lives in Athens.', 'The yellow card opens box 12.'];

async function stress() {
  const { loadModel } = await import('../../dist/index.js');
  const folder = mkdtempSync(join(tmpdir(), 'ternion-stress-'));
  const random = generator(seed);
  console.log(`seed ${seed}: ${count} sessions, ${minutes} minutes${values.asan ? ', AddressSanitizer' : ''}`);
  try {
    await round(loadModel, folder, random, Math.min(count, 50), Math.min(10, minutes * 10)); // what is made once is made
    const before = await held(loadModel);
    const done = await round(loadModel, folder, random, count, minutes * 60);
    const grown = (await held(loadModel)) - before;
    console.log(Object.entries(done).map(([what, times]) => `${what} ${times}`).join(', '));
    console.log(`memory: ${(grown / 2 ** 20).toFixed(1)} MiB more than before`);
    if (values.asan) {
      const { leaks } = createRequire(import.meta.url)(join(dirname(process.env.TERNION_ADDON), 'leak-check.node'));
      assert.equal(leaks(), false, 'LeakSanitizer found something');
    } else {
      assert.ok(grown < most, 'memory is what it was');
    }
    if (values.output !== undefined) await record(values.output, done, grown);
    console.log(`nothing found with --seed ${seed}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function record(path, done, grown) {
  const { machine } = await import('../../dist/bench/index.js');
  const all = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {};
  all[values.asan ? 'addressSanitizer' : 'plain'] = {
    run: {
      command: `npm run stress -- --minutes ${minutes} --sessions ${count} --seed ${seed}${values.asan ? ' --asan' : ''}`,
      commit: sayOf('git', ['describe', '--always', '--dirty']) ?? 'unknown', date: new Date().toISOString().slice(0, 10), machine: machine(),
    },
    minutes, sessions: count, seed, acts: Object.values(done).reduce((sum, times) => sum + times, 0), done, grownMiB: Number((grown / 2 ** 20).toFixed(1)),
  };
  writeFileSync(path, `${JSON.stringify(all, null, 1)}\n`);
}

/** One model, and sessions that do what they do for so many seconds. */
async function round(loadModel, folder, random, sessions, seconds) {
  const model = await loadModel('models/tern-5m-tq2_0.gguf', {
    devices: ['cpu'], context: 512, sequences: 8, kvTokens: 4096, packCache: false, cache: { ramBytes: 16 << 20, diskBytes: 32 << 20, diskDir: folder },
  });
  const state = { model, folder, random, done: {}, snapshots: [], end: performance.now() + seconds * 1000 };
  let left = sessions;
  let latest = state.end; // when one came to its end
  const all = Promise.all(Array.from({ length: sessions }, async (_, i) => {
    await live(state, i);
    left--;
    latest = performance.now();
  }));
  let settled = false;
  all.then(() => (settled = true), () => (settled = true));
  for (let next = performance.now() + 60_000; !settled; await wait(100)) {
    if (performance.now() > next) {
      console.log(`${((state.end - performance.now()) / 60_000).toFixed(1)} minutes left; ${JSON.stringify(state.done)}`);
      next += 60_000;
    }
    assert.ok(performance.now() < latest + 120_000, `${left} sessions do not come to their ends`);
  }
  await all;
  for (const { snapshot } of state.snapshots) await snapshot.dispose();
  assert.equal(model.cache.sessions.open, 0, 'no session is open');
  await model.trimCache();
  assert.equal(model.cache.cells.used, 0, 'no cell is held');
  await model.dispose();
  return state.done;
}

/** One session's life: what it holds is `said` as far as `turn`. */
async function live(state, i) {
  const { model, random, done } = state;
  const self = { session: await model.session(), turn: 0 };
  while (performance.now() < state.end) {
    const name = pick(random, Object.keys(acts));
    done[name] = (done[name] ?? 0) + 1;
    try {
      await acts[name](state, self);
    } catch (error) {
      error.message = `session ${i}, ${name} at turn ${self.turn}: ${error.message}`;
      throw error;
    }
    if (random() < 0.2) await wait(random() * 30);
  }
  await self.session.dispose();
}

const acts = {
  ask: (state, self) => ask(self),
  'ask again': (state, self) => ask(self),
  'ask with a reader': async (state, self) => {
    start(self);
    let text = '';
    for await (const piece of begin(self).text()) text += piece;
    assert.equal(text, said[self.turn]);
    self.turn++;
  },
  abort: async ({ random }, self) => {
    start(self);
    const abort = new AbortController();
    const running = begin(self, { signal: abort.signal, priority: Math.floor(random() * 3) });
    const outcome = running.then(({ text }) => text, failed);
    if (random() < 0.8) await wait(random() * 60);
    abort.abort();
    settle(self, await outcome);
  },
  'leave a reader': async ({ random }, self) => {
    start(self);
    let pieces = Math.floor(random() * 4);
    const running = begin(self);
    for await (const chunk of running) if (chunk.type === 'text' && pieces-- <= 0) break;
    settle(self, await running.then(({ text }) => text, failed));
  },
  'ask while asked': async (state, self) => {
    start(self);
    const running = begin(self);
    assert.throws(() => self.session.chat('x'), { code: 'ERR_BUSY' });
    settle(self, await running.then(({ text }) => text, failed));
  },
  fork: async (state, self) => {
    const fork = { session: await self.session.fork(), turn: self.turn };
    await Promise.all([ask(self), ask(fork)]);
    await fork.session.dispose();
  },
  'fork and change places': async (state, self) => {
    const fork = await self.session.fork();
    await self.session.dispose();
    self.session = fork;
  },
  snapshot: async ({ snapshots, random }, self) => {
    snapshots.push({ snapshot: await self.session.snapshot(), turn: self.turn });
    if (snapshots.length > 20) await snapshots.splice(Math.floor(random() * snapshots.length), 1)[0].snapshot.dispose();
  },
  restore: async ({ snapshots, random }, self) => {
    const found = pick(random, snapshots);
    if (found === undefined) return;
    const restored = await self.session.restore(found.snapshot).then(() => true, (error) => {
      assert.equal(error.code, 'ERR_DISPOSED'); // by another session, meanwhile
      return false;
    });
    if (restored) self.turn = found.turn;
  },
  'a file': async ({ folder, random }, self) => {
    const { Snapshot } = await import('../../dist/index.js');
    const path = join(folder, `${Math.floor(random() * 8)}.snapshot`);
    const snapshot = await self.session.snapshot();
    await snapshot.save(path);
    const bytes = await snapshot.serialize();
    await (await Snapshot.load(path)).dispose(); // whichever was written last
    const copy = await Snapshot.deserialize(bytes);
    await self.session.restore(copy);
    await Promise.all([snapshot.dispose(), copy.dispose()]);
  },
  rewind: async ({ random }, self) => {
    self.turn = Math.floor(random() * (self.turn + 1));
    await self.session.rewind(2 * self.turn);
  },
  dispose: async ({ model }, self) => {
    await Promise.all([self.session.dispose(), self.session.dispose()]);
    Object.assign(self, { session: await model.session(), turn: 0 });
  },
  'dispose while it runs': async ({ model, random }, self) => {
    start(self);
    const outcome = begin(self).then(() => 'done', failed);
    if (random() < 0.7) await wait(random() * 40);
    await self.session.dispose();
    await outcome;
    Object.assign(self, { session: await model.session(), turn: 0 });
  },
  embed: async ({ model, random }) => {
    const abort = new AbortController();
    const outcome = model.embed(['a fox', 'a bear'], { signal: abort.signal }).then(() => 'done', failed);
    if (random() < 0.5) abort.abort();
    await outcome;
  },
  'text and figures': async ({ model }) => {
    assert.equal(await model.detokenize(await model.tokenize('Once upon a time')), 'Once upon a time');
    assert.ok(model.stats().requests >= 0 && model.cache.cells.total > 0);
  },
  'trim the cache': async ({ model, random }) => {
    if (random() < 0.1) await model.trimCache();
  },
  unload: async ({ model, random }) => {
    if (random() > 0.05) return;
    try {
      await model.unload();
    } catch (error) {
      assert.equal(error.code, 'ERR_BUSY');
    }
  },
};

function start(self) {
  if (self.turn < asked.length) return;
  self.turn = 0;
  self.session.rewind(0);
}
function begin(self, options = {}) {
  return self.session.chat(asked[self.turn], { temperature: 0, ...options });
}
async function ask(self) {
  start(self);
  const { text } = await begin(self);
  assert.equal(text, said[self.turn]);
  self.turn++;
}
function failed(error) {
  assert.equal(error.code, 'ERR_ABORTED');
  return undefined;
}
function settle(self, text) {
  if (text === undefined) return;
  assert.equal(text, said[self.turn]);
  self.turn++;
}

/** Bytes that this process has for itself, but for V8's heap. */
async function held(loadModel) {
  const model = await loadModel('models/tern-5m-tq2_0.gguf', { devices: ['cpu'], context: 256, packCache: false });
  await model.dispose(); // the allocator gives back what is free
  for (let i = 0; i < 3; i++) {
    await wait(20);
    globalThis.gc();
  }
  return Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024 - getHeapStatistics().total_physical_size;
}

function pick(random, list) {
  return list[Math.floor(random() * list.length)];
}

function generator(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

if (values.child) {
  await stress();
} else {
  // One arena and fixed sizes: what glibc keeps of freed memory would hide what was not freed.
  const tunables = 'glibc.malloc.arena_max=1:glibc.malloc.mmap_threshold=131072:glibc.malloc.trim_threshold=131072';
  const env = { ...process.env, ...(values.asan ? asanNodeEnvironment() : { GLIBC_TUNABLES: tunables }) };
  const args = ['--expose-gc', import.meta.filename, '--child', '--minutes', values.minutes, '--sessions', values.sessions, '--seed', values.seed];
  const more = [...(values.asan ? ['--asan'] : []), ...(values.output === undefined ? [] : ['--output', values.output])];
  const child = spawn(process.execPath, [...args, ...more], { env, stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  child.on('close', (code, signal) => {
    if (code !== 0) console.log(`FAILED (${signal ?? code}) with --seed ${seed}`);
    process.exitCode = code === 0 ? 0 : 1;
  });
}
