// Decoding through the public API beside llama-bench, and beside a main thread that is busy.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { setImmediate, setTimeout } from 'node:timers';
import { setTimeout as wait } from 'node:timers/promises';
import { join } from 'node:path';

import { loadModel } from '../dist/index.js';
import { BIN } from './machine.mjs';
import { alternate, ratio, summary } from './measure.mjs';

const CONTEXT = 2048;
const BLOCK_MS = 50;
// A busy block ends within this time; the next sample must not begin in it.
const SETTLE_MS = 2 * BLOCK_MS;

/**
 * @param {{ path: string, tokens: number, repeats: number, onRound: (round: number) => void }} options
 * @returns samples in tokens per second, and what the medians of their paired ratios say
 */
export async function besideUpstream({ path, tokens, repeats, onRound }) {
  return withSubjects(path, async (one, two) => {
    checkAgainstUpstream(path, await one.text(64));
    const samples = await alternate(
      {
        '1 thread': () => one.wall(tokens),
        '1 thread, again': () => one.wall(tokens),
        'llama-bench, 1 thread': () => llamaBench(path, 1, tokens),
        '2 threads': () => two.wall(tokens),
        '2 threads, again': () => two.wall(tokens),
        'llama-bench, 2 threads': () => llamaBench(path, 2, tokens),
      },
      { repeats, onRound },
    );
    return report(tokens, samples, {
      'to llama-bench, 1 thread': ['1 thread', 'llama-bench, 1 thread'],
      'to llama-bench, 2 threads': ['2 threads', 'llama-bench, 2 threads'],
      'control, 1 thread': ['1 thread, again', '1 thread'],
      'control, 2 threads': ['2 threads, again', '2 threads'],
    });
  });
}

/** @param {Parameters<typeof besideUpstream>[0]} options */
export async function besideBusyMainThread({ path, tokens, repeats, onRound }) {
  return withSubjects(path, async (one, two) => {
    const samples = await alternate(
      {
        '1 thread': () => one.engine(tokens),
        '1 thread, again': () => one.engine(tokens),
        '1 thread, main thread spins': () => whileSpinning(() => one.engine(tokens)),
        '2 threads, main thread spins': () => whileSpinning(() => two.engine(tokens)),
      },
      { repeats, onRound },
    );
    return report(tokens, samples, {
      'spinning, 1 thread, to undisturbed': ['1 thread, main thread spins', '1 thread'],
      'spinning, 2 threads, to 1 undisturbed': ['2 threads, main thread spins', '1 thread'],
      control: ['1 thread, again', '1 thread'],
    });
  });
}

function report(tokens, samples, pairs) {
  return {
    tokens,
    tokensPerSecond: Object.fromEntries(Object.entries(samples).map(([name, values]) => [name, summary(values)])),
    ratios: Object.fromEntries(Object.entries(pairs).map(([name, [a, b]]) => [name, ratio(samples[a], samples[b])])),
  };
}

async function withSubjects(path, work) {
  const subjects = [await openSubject(path, 1), await openSubject(path, 2)];
  try {
    return await work(...subjects);
  } finally {
    for (const subject of subjects) await subject.close();
  }
}

// Every sample checks that its text is that of the first one: greedy decoding has one answer, whatever the threads.
const texts = new Map();

async function openSubject(path, threads) {
  const model = await loadModel(path, { devices: ['cpu'], threads, context: CONTEXT });
  const session = await model.session();
  const generate = async (maxTokens) => {
    const result = await session.complete('', { temperature: 0, ignoreEos: true, maxTokens });
    assert.equal(result.usage.prompt, 1, 'the prompt is the begin token alone');
    assert.equal(result.usage.generated, maxTokens);
    const key = `${path} ${maxTokens}`;
    assert.equal(result.text, texts.get(key) ?? result.text, 'the same tokens in every sample');
    texts.set(key, result.text);
    return result;
  };
  return {
    text: async (maxTokens) => (await generate(maxTokens)).text,
    /** Tokens per second from the call to the result: prefill of one token, decoding, detokenising, streaming. */
    wall: async (maxTokens) => {
      const start = performance.now();
      await generate(maxTokens);
      return (1000 * maxTokens) / (performance.now() - start);
    },
    /** The same by the engine's clock: a busy main thread also learns of the result late, which is not the engine's doing. */
    engine: async (maxTokens) => {
      const { usage } = await generate(maxTokens);
      return (1000 * maxTokens) / (usage.prefillMs + usage.decodeMs);
    },
    close: () => model.dispose(),
  };
}

/** Runs `work` while this thread spins in blocks of 50 ms, letting other callbacks in between. */
async function whileSpinning(work) {
  let spinning = true;
  const spin = () => {
    if (!spinning) return;
    const end = performance.now() + BLOCK_MS;
    while (performance.now() < end);
    setImmediate(spin);
  };
  setTimeout(spin, 0);
  try {
    return await work();
  } finally {
    spinning = false;
    await wait(SETTLE_MS);
  }
}

function llamaBench(path, threads, tokens) {
  const args = ['-m', path, '-dev', 'none', '-p', '0', '-n', String(tokens), '-r', '1', '-t', String(threads), '-o', 'json'];
  const output = execFileSync(join(BIN, 'llama-bench'), args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return Promise.resolve(JSON.parse(output)[0].avg_ts);
}

function checkAgainstUpstream(path, text) {
  const args = ['-m', path, '-dev', 'none', '-p', '', '-n', '64', '--temp', '0', '--ignore-eos', '-no-cnv', '-c', '512', '--no-display-prompt'];
  const upstream = execFileSync(join(BIN, 'llama-completion'), args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  assert.equal(text.trim(), upstream.trim(), 'greedy tokens are those of llama-completion');
}
