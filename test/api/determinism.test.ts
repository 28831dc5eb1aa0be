import { afterAll, expect, test } from 'vitest';
import { loadModel } from '../../dist/index.js';
import type { Model } from '../../dist/index.js';

const models: Model[] = [];
afterAll(() => Promise.all(models.map((model) => model.dispose())));

const open = async (threads: number): Promise<Model> => {
  const model = await loadModel('models/tern-5m-tq2_0.gguf', { devices: ['cpu'], context: 2048, threads });
  models.push(model);
  return model;
};

// Past 512 cells llama.cpp splits attention over the cache, and must not do so by threads. The engine changes the
// number of threads between tokens when the machine is busy, so anything else would tell by chance.
test('the number of threads does not change a single logit', async () => {
  const [one, two, three] = [await open(1), await open(2), await open(3)];
  const tokens = await one.tokenize('Once upon a time, there was a little fox who lived in a valley. '.repeat(60));
  const prompt = tokens.slice(0, 1500);
  const reference = await one.logits(prompt);
  for (const model of [two, three]) expect(Buffer.compare(bytes(await model.logits(prompt)), bytes(reference))).toBe(0);
});

test('the number of threads does not change a sampled text of 1,200 tokens', async () => {
  const texts = [];
  for (const threads of [1, 2, 3, 2]) {
    const session = await (await open(threads)).session();
    const { text, usage } = await session.complete('Once upon a time', { temperature: 1.5, seed: 11, ignoreEos: true, maxTokens: 1200 });
    expect(usage.generated).toBe(1200);
    texts.push(text);
  }
  expect(new Set(texts).size).toBe(1);
});

function bytes(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
