// npm run bench -- sessions: what sessions as values cost, on shape M on the CPU, and the same walk by llama.cpp's server.
//
//   npm run bench -- sessions [--rounds N] [--sessions N] [--only NAME] [--output FILE]
//
// Parts: prefix, fork, restore, walk, server, leaks. Three rounds of all take 20 minutes.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';

import { ROOT, SetupError, WORK, ask } from '../scripts/run.mjs';
import { setUp } from '../scripts/setup.mjs';
import { CANDIDATES, THREADS, inTurn, sameCandidates, summaries, time } from './samples.mjs';
import { SEQUENCES, server, walk } from './sessions-walk.mjs';
import { shapeFile } from './shapes.mjs';

const PARTS = { prefix, fork, restore, walk, server, leaks };
const TARGETS = {
  'prefix: second session, time to first token to cold': ['<=', 0.05],
  'fork of 4,000 tokens, ms': ['<', 1],
  'fork of 4,000 tokens, bytes': ['<=', 0],
  'restore of 2,000 tokens from memory, to prefilling them': ['<=', 0.02],
  'restore of 2,000 tokens from disk, to prefilling them': ['<=', 0.05],
  'walk, to sessions that all fit': ['>=', 0.6],
  "server: total time of llama-server's best way to ours": ['>', 1],
  'leaks: cells after 10,000 operations': ['<=', 0],
  'leaks: bytes after 10,000 operations': ['<=', 0],
};

export async function benchSessions(args) {
  const { values } = parseArgs({
    args,
    options: {
      rounds: { type: 'string', default: '5' },
      sessions: { type: 'string', default: '64' },
      only: { type: 'string', multiple: true, default: Object.keys(PARTS) },
      output: { type: 'string', default: join(ROOT, 'bench', 'results', 'sessions.json') },
    },
  });
  const rounds = Number(values.rounds);
  const count = Number(values.sessions);
  if (!Number.isInteger(rounds) || rounds < 1) throw new SetupError(`--rounds takes a whole number from 1; found ${values.rounds}`);
  if (!Number.isInteger(count) || count < SEQUENCES || count % SEQUENCES !== 0) throw new SetupError(`--sessions takes a multiple of ${SEQUENCES}; found ${values.sessions}`);
  const unknown = values.only.find((part) => !Object.hasOwn(PARTS, part));
  if (unknown !== undefined) throw new SetupError(`--only takes ${Object.keys(PARTS).join(', ')}; found ${unknown}`);
  await setUp({ tests: true, server: values.only.includes('server') });
  const lib = { ...(await import('../dist/index.js')), ...(await import('../dist/bench/index.js')), ...(await import('../dist/bench/prompt.js')) };
  const path = await shapeFile('M');
  const report = existsSync(values.output) ? JSON.parse(readFileSync(values.output, 'utf8')) : {};
  const run = { command: 'npm run bench -- sessions', commit: ask('git', ['describe', '--always', '--dirty']) ?? 'unknown', date: new Date().toISOString().slice(0, 10), machine: lib.machine(), threads: THREADS, rounds };

  for (const [part, measure] of Object.entries(PARTS).filter(([name]) => values.only.includes(name))) {
    console.error(`${part} …`);
    report[part] = { run, ...(await measure({ lib, path, rounds, count })) };
    mkdirSync(dirname(values.output), { recursive: true });
    writeFileSync(values.output, `${JSON.stringify(report, null, 1)}\n`); // what is measured is kept, whatever comes next
  }
  report.verdicts = Object.entries(TARGETS).flatMap(([what, [sign, bar]]) => {
    const value = Object.values(report).map((part) => part.figures?.[what]).find((found) => found !== undefined);
    const median = value?.median ?? value;
    const met = sign === '<=' ? median <= bar : sign === '<' ? median < bar : sign === '>=' ? median >= bar : median > bar;
    return median === undefined ? [] : [{ what, target: `${sign} ${bar}`, value: median, met }];
  });
  writeFileSync(values.output, `${JSON.stringify(report, null, 1)}\n`);
  for (const { what, target, value, met } of report.verdicts) console.log(`${what.padEnd(64)} ${String(value).padStart(10)}   ${met ? 'meets' : 'MISSES'} ${target}`);
  console.log(`written to ${relative(process.cwd(), values.output)}`);
}

async function prefix({ lib, path, rounds }) {
  const model = await lib.loadModel(path, { devices: ['cpu'], threads: THREADS, context: 2304, sequences: 2 });
  const texts = [];
  const first = async (round, more) => {
    const session = await model.session();
    const result = await session.complete(`${texts[round + 1]} ${more}`, CANDIDATES);
    return { session, result, usage: result.usage };
  };
  for (let round = -1; round < rounds; round++) texts.push(await lib.textOf(model, 2000, 7 + round));
  let kept;
  const found = await inTurn(rounds, {
    cold: async (round) => {
      kept = await first(round, 'one');
      assert.ok(kept.usage.cached <= 1, 'nothing of it was there');
      return kept.usage.firstTokenMs;
    },
    second: async (round) => {
      const second = await first(round, 'two');
      assert.ok(second.usage.cached >= 1999, 'the prefix was there');
      await kept.session.dispose();
      await second.session.dispose();
      await model.trimCache();
      const alone = await first(round, 'two');
      sameCandidates(second.result, alone.result);
      await alone.session.dispose();
      await model.trimCache();
      return second.usage.firstTokenMs;
    },
  });
  await model.dispose();
  return { figures: { 'prefix: second session, time to first token to cold': lib.pairedRatio(found.second, found.cold) }, ms: summaries(lib, found) };
}

async function fork({ lib, path, rounds }) {
  const model = await lib.loadModel(path, { devices: ['cpu'], threads: THREADS, context: 4096, sequences: 1 });
  const session = await model.session();
  const text = await lib.textOf(model, 4000, 3);
  await session.complete(text, { maxTokens: 0 });
  const bytes = [];
  const found = await inTurn(Math.max(rounds, 20), {
    call: async () => {
      const before = model.cache.cells.used;
      let forked;
      const ms = await time(async () => (forked = await session.fork()));
      const marked = await time(() => model.trimCache()); // a command behind it: when this is done the cells are marked
      bytes.push((model.cache.cells.used - before) * model.cache.cells.bytesEach);
      assert.equal(model.cache.cells.shared, session.usedTokens, 'all of its cells are shared');
      await forked.dispose();
      return ms + marked;
    },
  });
  const forked = await session.fork();
  const [a, b] = [await session.complete(`${text} and`, CANDIDATES), await forked.complete(`${text} and`, CANDIDATES)];
  sameCandidates(b, a);
  assert.ok(b.usage.cached >= 3999);
  await model.dispose();
  return { figures: { 'fork of 4,000 tokens, ms': lib.summarize(found.call), 'fork of 4,000 tokens, bytes': Math.max(...bytes) } };
}

async function restore({ lib, path, rounds }) {
  const model = await lib.loadModel(path, { devices: ['cpu'], threads: THREADS, context: 2304, sequences: 1 });
  const text = await lib.textOf(model, 2000, 5);
  const session = await model.session();
  const right = await session.complete(text, CANDIDATES);
  await session.complete(text, { maxTokens: 0 });
  const snapshot = await session.snapshot();
  const file = join(WORK, 'bench', 'sessions.snapshot');
  await snapshot.save(file);
  await session.dispose();
  await model.trimCache();
  const check = async (each) => {
    const result = await each.complete(text, CANDIDATES);
    assert.ok(result.usage.cached >= 1999, 'its tokens have cells');
    sameCandidates(result, right);
    await each.dispose();
    await model.trimCache();
  };
  const restored = async (from) => {
    const each = await model.session();
    const ms = await time(async () => each.restore(await from()));
    await check(each);
    return ms;
  };
  const found = await inTurn(rounds, {
    prefill: async () => {
      const each = await model.session();
      const ms = await time(() => each.complete(text, { maxTokens: 0 }));
      await each.dispose();
      await model.trimCache();
      return ms;
    },
    memory: () => restored(() => snapshot),
    disk: () => restored(() => lib.Snapshot.load(file)),
  });
  await model.dispose();
  rmSync(file);
  return {
    figures: {
      'restore of 2,000 tokens from memory, to prefilling them': lib.pairedRatio(found.memory, found.prefill),
      'restore of 2,000 tokens from disk, to prefilling them': lib.pairedRatio(found.disk, found.prefill),
    },
    ms: summaries(lib, found),
    bytes: snapshot.bytes,
  };
}

/** Random operations on the embedded model; what is in use when every session has gone. */
async function leaks({ lib }) {
  const folder = join(WORK, 'bench', 'tiers');
  rmSync(folder, { recursive: true, force: true });
  const model = await lib.loadModel(await shapeFile('embedded'), {
    devices: ['cpu'], context: 256, sequences: 3, spareSequences: 4, kvTokens: 768, cache: { ramBytes: 2 ** 21, diskBytes: 2 ** 22, diskDir: folder },
  });
  let state = 12345;
  const below = (n) => ((state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 8) % n;
  const sessions = [await model.session()];
  const kept = [];
  const done = { generate: 0, fork: 0, rewind: 0, restore: 0, dispose: 0, abort: 0 };
  const animals = ['fox', 'bear', 'cat', 'owl', 'hen', 'wolf'];
  const ask = (session, options) => {
    if (session.messages.length > 6) session.rewind(below(4) * 2);
    return session.chat(`Tell me a story about a ${animals[below(animals.length)]}.`, { temperature: 0, maxTokens: 1 + below(12), ...options });
  };
  for (let i = 0; i < 10_000; i++) {
    const at = below(sessions.length);
    const session = sessions[at];
    const what = ['generate', 'generate', 'generate', 'fork', 'rewind', 'restore', 'dispose', 'abort'][below(8)];
    done[what]++;
    if (what === 'generate') await ask(session);
    else if (what === 'fork' && sessions.length < 12) sessions.push(await session.fork());
    else if (what === 'rewind') session.rewind(-2);
    else if (what === 'restore' && (kept.length < 4 || below(2) === 0)) kept.splice(below(4), 1, await session.snapshot());
    else if (what === 'restore') await session.restore(kept[below(kept.length)]);
    else if (what === 'dispose') {
      await session.dispose();
      sessions.splice(at, 1);
      if (sessions.length === 0) sessions.push(await model.session());
    } else if (what === 'abort') await ask(session, { signal: AbortSignal.timeout(1 + below(3)) }).catch(() => {});
  }
  for (const session of sessions) await session.dispose();
  await model.trimCache();
  while (model.cache.disk.writing > 0) await model.trimCache();
  const { cells, sequences, ram, disk, checkpoints } = model.cache;
  const counts = { evictions: model.cache.evictions, restores: model.cache.restores };
  assert.ok(counts.evictions > 100 && counts.restores > 100, 'state moved all the time');
  await model.dispose();
  rmSync(folder, { recursive: true, force: true });
  return {
    operations: done, ...counts,
    figures: { 'leaks: cells after 10,000 operations': cells.used + sequences.used, 'leaks: bytes after 10,000 operations': ram.bytes + disk.bytes + disk.writing + checkpoints.bytes },
  };
}
