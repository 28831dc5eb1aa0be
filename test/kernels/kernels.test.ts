import { afterEach, describe, expect, test } from 'vitest';
import { loadModel } from '../../dist/index.js';
import type { Model } from '../../dist/index.js';

const path = 'models/tern-5m-tq2_0.gguf';
const sherry = 'models/tern-5m-sherry-stq1_0.gguf';
const mixture = 'models/tern-moe-6m-tq2_0.gguf';
const text = 'Once upon a time, there was a little fox who lived in a forest. One day the fox lost her kite and went to look for it by the river.';

afterEach(() => delete process.env['TERNION_KERNEL']);

async function open(kernels: string | undefined, file = path, threads = 2): Promise<Model> {
  if (kernels === undefined) delete process.env['TERNION_KERNEL'];
  else process.env['TERNION_KERNEL'] = kernels;
  return loadModel(file, { devices: ['cpu'], context: 512, threads, sequences: 4 });
}

/** What this processor has that rounds activations, from the refusal of what it has not. */
async function available(): Promise<string[]> {
  const error: unknown = await open('none of these').catch((e: unknown) => e);
  expect(error).toMatchObject({ code: 'ERR_INVALID_ARG' });
  return /only upstream, (.*)$/.exec((error as Error).message)?.[1]?.split(', ').filter((name) => name !== 'float32') ?? [];
}

describe('TERNION_KERNEL', () => {
  test('unset, the fastest set is used; `upstream` leaves weights as they are in the file', async () => {
    const [fastest] = await available();
    for (const [setting, kernels] of [[undefined, fastest], ['upstream', 'upstream']] as const) {
      const model = await open(setting);
      expect(model.placement.kernels).toBe(kernels);
      await model.dispose();
    }
  });

  test.each([path, sherry, mixture])('each set of kernels predicts of %s what upstream’s do, within what rounded activations allow', async (file) => {
    const names = await available();
    expect(names).toContain('scalar');
    const upstream = await open('upstream', file);
    const tokens = await upstream.tokenize(text, { bos: true });
    const reference = await upstream.logits(tokens);
    const { vocabulary } = upstream.info;
    await upstream.dispose();
    for (const name of names) {
      const model = await open(name, file);
      expect(model.placement.kernels).toBe(name.split('/')[0]);
      const logits = await model.logits(tokens);
      let [error, power, same] = [0, 0, 0];
      for (let row = 0; row < tokens.length; row++) {
        const best = (all: Float32Array) => all.subarray(row * vocabulary, (row + 1) * vocabulary).reduce((at, value, i, r) => (value > (r[at] as number) ? i : at), 0);
        same += best(logits) === best(reference) ? 1 : 0;
      }
      reference.forEach((value, i) => {
        error += ((logits[i] as number) - value) ** 2;
        power += value ** 2;
      });
      expect(error / power, name).toBeLessThan(1e-3);
      expect(same / tokens.length, name).toBeGreaterThanOrEqual(0.95);
      await model.dispose();
    }
  });

  test.each([path, sherry, mixture])('a text of %s is the same alone and beside others, with one thread, with two and with more than there is work for', async (file) => {
    const [fastest] = await available();
    const texts = new Set<string>();
    for (const threads of [1, 2, 33]) {
      const model = await open(fastest, file, threads);
      const sessions = await Promise.all([0, 1, 2, 3].map(() => model.session()));
      const generate = (i: number) => sessions[i]!.complete('Once upon a time', { temperature: 0, maxTokens: 64, ignoreEos: true });
      texts.add((await generate(0)).text);
      for (const { text: beside } of await Promise.all([0, 1, 2, 3].map((i) => generate(i)))) texts.add(beside);
      await model.dispose();
    }
    expect(texts.size).toBe(1);
  });

  test('models in other formats keep upstream’s kernels', async () => {
    const [fastest] = await available();
    const model = await open(fastest, 'models/tern-embedding-random.gguf');
    expect(model.placement.kernels).toBe('upstream');
    await model.dispose();
  });

  test('two models with different kernels live side by side', async () => {
    const [fastest] = await available();
    const [ours, theirs] = [await open(fastest), await open('upstream')];
    expect([ours.placement.kernels, theirs.placement.kernels]).toEqual([fastest, 'upstream']);
    const texts = await Promise.all([ours, theirs].map(async (model) => (await (await model.session()).complete('Once', { temperature: 0, maxTokens: 16 })).text));
    expect(texts[0]).toBe(texts[1]);
    await ours.dispose();
    await theirs.dispose();
  });
});
