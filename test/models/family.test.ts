import { readFileSync, readdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { FIGURES } from '../../models/check/figures.mjs';

type Figures = Record<string, unknown>;
const family = JSON.parse(readFileSync('models/family.json', 'utf8')) as Record<string, Figures>;
const cards = readFileSync('models/README.md', 'utf8');
// Minutes of answers from the dense model: `npm run models:check` asks for them.
const slow = ['answers'];

test('every model has its figures and its card', () => {
  expect(Object.keys(family).sort()).toEqual(readdirSync('models').filter((name) => name.endsWith('.gguf')).sort());
  for (const [name, { bytes, sha256, perplexity }] of Object.entries(family)) {
    expect(cards, name).toContain(`\`${name}\``);
    expect(cards, name).toContain((bytes as number).toLocaleString('en'));
    expect(cards, name).toContain(sha256 as string);
    if (typeof perplexity === 'number') expect(cards, name).toContain(String(perplexity));
  }
});

describe.each(Object.entries(family))('%s', (name, figures) => {
  test.each(Object.entries(figures).filter(([figure]) => !slow.includes(figure)))('%s is as recorded', { timeout: 120_000 }, async (figure, recorded) => {
    const { of, agrees } = FIGURES[figure as keyof typeof FIGURES] as { of: (name: string) => unknown; agrees: (now: unknown, before: unknown) => boolean };
    const now = await of(name);
    expect(agrees(now, recorded), `${JSON.stringify(now)}, recorded ${JSON.stringify(recorded)}`).toBe(true);
  });
});

test('Sherry predicts nearly as well as the dense model', () => {
  expect((family['tern-5m-sherry-stq1_0.gguf'] as { perplexity: number }).perplexity).toBeLessThan(1.08 * (family['tern-5m-tq2_0.gguf'] as { perplexity: number }).perplexity);
});
