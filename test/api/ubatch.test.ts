import { expect, test } from 'vitest';
import { loadModel } from '../../dist/index.js';
import type { LoadOptions } from '../../dist/index.js';

const files = ['tern-5m-f16', 'tern-moe-6m-tq2_0', 'tern-hybrid-random'].map((name) => `models/${name}.gguf`);
const text = 'Once upon a time there was a fox. It lived in a wood and had a friend, who was a bear. '.repeat(6);

async function stepsOf(path: string, options: LoadOptions) {
  const model = await loadModel(path, { devices: ['cpu'], packCache: false, context: 1024, ...options });
  const session = await model.session();
  const { usage } = await session.complete(text, { temperature: 0, maxTokens: 1, ignoreEos: true });
  const { steps } = model.stats();
  await model.dispose();
  return { steps, prompt: usage.prompt, placement: model.placement };
}

for (const path of files) {
  test(`${path}: no step has more tokens than a ubatch`, async () => {
    const usual = await stepsOf(path, {});
    expect(usual.placement.ubatch).toBe(512);
    for (const ubatch of [1, 7, 64, 300]) {
      const { steps, prompt, placement } = await stepsOf(path, { ubatch });
      expect(placement.ubatch).toBe(ubatch);
      expect(steps).toBeGreaterThanOrEqual(Math.ceil(prompt / ubatch));
      expect(steps).toBeLessThanOrEqual(Math.ceil(prompt / ubatch) + 2); // checkpoints part a prompt
    }
    const large = await stepsOf(path, { ubatch: 16_384 });
    expect(large.placement.ubatch).toBe(1024); // no more than there are cells
  });
}

test('one smaller than the sequences is refused, one of their number decodes them together', async () => {
  const path = files[0]!;
  await expect(loadModel(path, { devices: ['cpu'], sequences: 4, ubatch: 3 })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG', message: expect.stringContaining('ubatch is 3') as string });
  const model = await loadModel(path, { devices: ['cpu'], sequences: 4, ubatch: 4, context: 256 });
  const sessions = await Promise.all([1, 2, 3, 4].map(() => model.session()));
  const results = await Promise.all(sessions.map((session) => session.complete('Once upon', { maxTokens: 20, ignoreEos: true })));
  expect(results.map(({ usage }) => usage.generated)).toEqual([20, 20, 20, 20]);
  await model.dispose();
});

test('attention in one operation or in several gives the same candidates', async () => {
  const path = files[0]!;
  const rows = [];
  for (const flashAttention of [true, false]) {
    const model = await loadModel(path, { devices: ['cpu'], flashAttention, kv: 'f32' });
    expect(model.placement.flashAttention).toBe(flashAttention);
    const session = await model.session();
    const seen: number[] = [];
    for await (const chunk of session.complete(text, { temperature: 0, maxTokens: 3, ignoreEos: true, logprobs: 3 })) {
      if (chunk.type === 'logprobs') seen.push(...chunk.logprobs.flatMap(({ top }) => top.map(({ logprob }) => logprob)));
    }
    rows.push(seen);
    await model.dispose();
  }
  expect(rows[0]!.length).toBeGreaterThan(5);
  for (const [i, value] of rows[0]!.entries()) expect(value).toBeCloseTo(rows[1]![i]!, 2);
});

test('quantised values without flash attention are refused', async () => {
  await expect(loadModel(files[0]!, { devices: ['cpu'], flashAttention: false, kv: 'q8_0' })).rejects.toMatchObject({ code: 'ERR_MODEL_UNSUPPORTED', message: expect.stringContaining('flashAttention') as string });
  const model = await loadModel(files[0]!, { devices: ['cpu'], flashAttention: false, kv: { k: 'q8_0', v: 'f16' } });
  expect(model.placement.flashAttention).toBe(false);
  await model.dispose();
});
