import { expect, test } from 'vitest';
import { loadModel } from '../../dist/index.js';
import type { Generation } from '../../dist/index.js';
import { failure } from './conversation.js';

const path = 'models/tern-5m-tq2_0.gguf';
const long = 'The fox looked at the river. '.repeat(120);
const greedy = { temperature: 0, ignoreEos: true } as const;

/** Waits for the first text. Wrapped: a promise would await the generation. */
async function decoding(generation: Generation): Promise<void> {
  void generation.then(undefined, () => {});
  for await (const chunk of generation) if (chunk.type === 'text') break;
}

test('a capture that prefills takes no place among those that decode', async () => {
  const model = await loadModel(path, { devices: ['cpu'], context: 1024, sequences: 1, kvTokens: 1200, cache: { ramBytes: 0 } });
  const [lost, low, high] = [await model.session(), await model.session(), await model.session()];
  await lost.complete(long, { ...greedy, maxTokens: 1 });
  await low.complete(`Once ${long}`, { ...greedy, maxTokens: 1 }); // takes its cells
  await low.complete('Once', { ...greedy, maxTokens: 1 });
  const running = low.complete('Once upon a time', greedy);
  await decoding(running);
  const capturing = lost.snapshot();
  const urgent = high.complete('Once', { ...greedy, maxTokens: 40, priority: 5 });
  expect((await urgent).usage.generated).toBe(40);
  expect((await capturing).tokens).toBeGreaterThan(500);
  await running.cancel();
  expect(model.stats().maxSequencesInStep).toBeLessThanOrEqual(2); // one decodes, one is prefilled
  await model.dispose();
});

test('a snapshot holds nothing of a question that was aborted', async () => {
  const model = await loadModel(path, { devices: ['cpu'], context: 1024 });
  const session = await model.session({ system: 'You are kind.' });
  await session.chat('Tell me a story about a fox.', { temperature: 0, maxTokens: 20 });
  const asked = session.chat('Remember: the secret word is mushroom.', greedy);
  await decoding(asked);
  await asked.cancel();
  const snapshot = await session.snapshot();
  expect(snapshot.messages).toHaveLength(3);
  expect(Buffer.from(await snapshot.serialize()).includes('mushroom')).toBe(false);
  await model.dispose();
});

test('restoring right after a request was aborted while its text was prepared', async () => {
  const model = await loadModel(path, { devices: ['cpu'], context: 1024 });
  const session = await model.session({ system: 'You are kind.' });
  const { text } = await session.chat('Tell me a story about a fox.', { temperature: 0, maxTokens: 20 });
  const snapshot = await session.snapshot();
  for (let i = 0; i < 20; i++) {
    const asked = session.chat(long.repeat(20), greedy);
    await asked.cancel();
    await session.restore(snapshot);
    expect(session.messages[2]?.content).toBe(text);
  }
  await model.dispose();
});

test('sequence ids that pinned sessions hold are named', async () => {
  const model = await loadModel(path, { devices: ['cpu'], context: 256, spareSequences: 0 });
  const prime = await model.prime([{ role: 'system', content: 'You are kind.' }]);
  const session = await model.session();
  const error = (await failure(session.complete('Once', { maxTokens: 1 }))) as { code?: string; message?: string };
  expect([error.code, /spareSequences/.test(error.message ?? '')]).toEqual(['ERR_OUT_OF_MEMORY', true]);
  await prime.dispose();
  expect((await session.complete('Once', { maxTokens: 1 })).usage.generated).toBe(1);
  await model.dispose();
});

test('a pinned session is restored though old and new do not fit together', async () => {
  const model = await loadModel(path, { devices: ['cpu'], context: 1024 });
  const session = await model.session({ pinned: true });
  await session.complete(long, { ...greedy, maxTokens: 1 });
  const snapshot = await session.snapshot();
  await session.complete(`Once ${long}`, { ...greedy, maxTokens: 1 });
  await session.restore(snapshot);
  expect(session.usedTokens).toBe(snapshot.tokens);
  await model.dispose();
});
