// Many conversations over few sequences: with tiers, against as many as fit, and by llama.cpp's server.

import assert from 'node:assert/strict';

import { CANDIDATES, THREADS, greedy, inTurn, sameCandidates, summaries, time } from './samples.mjs';
import { WAYS, openWalker } from './sessions-server.mjs';

export const SEQUENCES = 4;
const TURN_TOKENS = 32;
const MOST_ROUNDS = 3; // by the server: what it is compared with is measured by rounds of minutes
const HISTORY = 1000;
const KV_TOKENS = SEQUENCES * (HISTORY + 128);
const CACHE_MIB = 8192;
const question = (turn) => ` and then, as number ${turn} of all,`;

/** Each conversation in turn, over as many hands as the model has sequences. `turn(i, hand)` may tell what it prefilled. */
async function walkOver(conversations, turn) {
  const queue = conversations[Symbol.iterator]();
  let prefilled = 0;
  const ms = await time(() =>
    Promise.all(
      Array.from({ length: SEQUENCES }, async (_, hand) => {
        for (const i of queue) prefilled += (await turn(i, hand)) ?? 0;
      }),
    ),
  );
  return { ms, prefilled };
}

const turnOf = (sessions, texts) => (round) => async (i) => {
  const { usage } = await sessions[i].complete(texts[i] + question(round), { ...greedy, maxTokens: TURN_TOKENS });
  return usage.prompt - usage.cached;
};

/** A model with room for four conversations and memory for all. `kernels`: TERNION_KERNEL. */
async function openModel({ lib, path }, kernels = '') {
  process.env.TERNION_KERNEL = kernels;
  try {
    return await lib.loadModel(path, {
      devices: ['cpu'], threads: THREADS, context: HISTORY + 128, sequences: SEQUENCES, kvTokens: KV_TOKENS, spareSequences: 0, cache: { ramBytes: CACHE_MIB * 2 ** 20 },
    });
  } finally {
    delete process.env.TERNION_KERNEL;
  }
}

/** As many conversations of 1,000 tokens, each in a session of its own. */
async function openConversations({ lib, count }, model) {
  const texts = [];
  for (let i = 0; i < count; i++) texts.push(await lib.textOf(model, HISTORY, 100 + i));
  const sessions = await Promise.all(texts.map(() => model.session()));
  await Promise.all(texts.map((text, i) => sessions[i].complete(text, { maxTokens: 0 })));
  return { texts, sessions };
}

/** All conversations in turn, against the first four again and again. */
export async function walk(bench) {
  const { lib, path, rounds, count } = bench;
  const model = await openModel(bench);
  const { texts, sessions } = await openConversations(bench, model);
  const numbers = texts.map((_, i) => i);
  const four = numbers.slice(0, SEQUENCES);
  const fit = numbers.map((i) => four[i % SEQUENCES]);
  const before = model.cache;
  const turn = turnOf(sessions, texts);
  const prefilled = [];
  const found = await inTurn(rounds, {
    'tiers': async (round) => {
      const done = await walkOver(numbers, turn(round));
      prefilled.push(done.prefilled / count);
      return done.ms;
    },
    'all fit': async (round) => {
      await walkOver(four, turn(round)); // brings them back
      return (await walkOver(fit, turn(round))).ms;
    },
  });
  const after = model.cache;
  assert.ok(Math.max(...prefilled) < 64, 'nothing but the questions was prefilled');
  const alone = await lib.loadModel(path, { devices: ['cpu'], threads: THREADS, context: HISTORY + 128 });
  const fresh = await alone.session();
  for (const i of [0, count - 1]) sameCandidates(await sessions[i].complete(texts[i] + question(0), CANDIDATES), await fresh.complete(texts[i] + question(0), CANDIDATES));
  await alone.dispose();
  await model.dispose();
  return {
    figures: { 'walk, to sessions that all fit': lib.pairedRatio(found['all fit'], found.tiers) },
    tokensPerSecond: Object.fromEntries(Object.entries(found).map(([name, ms]) => [name, lib.summarize(ms.map((each) => (1000 * count * TURN_TOKENS) / each))])),
    prefilledPerTurn: Math.max(...prefilled), evictions: after.evictions - before.evictions, restores: after.restores - before.restores,
    capturedBytes: after.capturedBytes - before.capturedBytes, restoredBytes: after.restoredBytes - before.restoredBytes, ram: after.ram, cellBytes: after.cells.bytesEach,
  };
}

/** The same conversations, known to everyone by their state: by ours, by ours with llama.cpp's kernels, and by llama.cpp's server. */
export async function server(bench) {
  const { lib, path, rounds, count } = bench;
  const model = await openModel(bench);
  const { texts, sessions } = await openConversations(bench, model);
  const numbers = texts.map((_, i) => i);
  const plain = await openModel(bench, 'upstream');
  const restored = [];
  const conversations = [];
  for (const i of numbers) {
    const snapshot = await sessions[i].snapshot();
    restored.push(await plain.session({ from: snapshot }));
    conversations.push({ text: texts[i], snapshot: await snapshot.serialize() });
    await snapshot.dispose();
  }
  const prefilledPerTurn = {};
  const sample = (name, turn) => async (round) => {
    const { ms, prefilled } = await walkOver(numbers, turn(round));
    prefilledPerTurn[name] = Math.max(prefilledPerTurn[name] ?? 0, prefilled / count);
    return ms;
  };
  const servers = [];
  try {
    for (const way of WAYS) servers.push(await openWalker({ way, path, threads: THREADS, sequences: SEQUENCES, kvTokens: KV_TOKENS, cacheMiB: CACHE_MIB, conversations }));
    const byServer = (each) => sample(each.name, (round) => (i, hand) => each.turn(i, texts[i] + question(round), TURN_TOKENS, hand));
    const ms = await inTurn(Math.min(rounds, MOST_ROUNDS), {
      ours: sample('ours', turnOf(sessions, texts)),
      "ours with llama.cpp's kernels": sample("ours with llama.cpp's kernels", turnOf(restored, texts)),
      ...Object.fromEntries(servers.map((each) => [each.name, byServer(each)])),
    });
    const [best] = servers.map(({ name }) => ms[name]).sort((a, b) => lib.summarize(a).median - lib.summarize(b).median);
    return {
      figures: {
        "server: total time of llama-server's best way to ours": lib.pairedRatio(best, ms.ours),
        "server: total time of llama-server's best way to ours with its kernels": lib.pairedRatio(best, ms["ours with llama.cpp's kernels"]),
      },
      prefilledPerTurn,
      ms: summaries(lib, ms),
    };
  } finally {
    for (const each of servers) await each.close();
    await plain.dispose();
    await model.dispose();
  }
}
