import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { presets, synthesize } from '../../dist/gguf/index.js';
import type { Preset, PresetName } from '../../dist/gguf/index.js';
import { loadModel } from '../../dist/index.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-presets-'));
afterAll(() => rmSync(folder, { recursive: true }));

// The true widths and types, cut in depth: two layers, or four where one in four is a full one. Up to 2 GB on disk.
test.each(Object.keys(presets) as PresetName[])('%s loads and decodes', { timeout: 300_000 }, async (name) => {
  const { shape }: Preset = presets[name];
  const path = join(folder, 'model');
  await synthesize(path, name, { layers: Math.min(shape.layers, shape.linear === undefined ? 2 : 4) });
  const model = await loadModel(path, { devices: ['cpu'], context: 128 });
  const session = await model.session();
  const { usage, logprobs } = await session.complete('Once upon a time', { temperature: 0, ignoreEos: true, maxTokens: 2, logprobs: 1 });
  expect(usage.generated).toBe(2);
  for (const { logprob } of logprobs) expect(Number.isFinite(logprob)).toBe(true);
  await model.dispose();
});
