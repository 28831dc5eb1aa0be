import { expect, test } from 'vitest';
import { plan } from '../../dist/index.js';
import type { Plan } from '../../dist/index.js';
import { pictureOf } from '../../dist/plan/picture.js';

const found = await plan('models/tern-moe-6m-tq2_0.gguf', { devices: ['cpu'], context: 2048, cache: { ramBytes: 2 ** 28 } });

/** Fails where XML would: tags that do not nest, attributes without quotes, or twice, bare ampersands. Gives the elements in order. */
function elements(xml: string): { name: string; attributes: Record<string, string>; text: string }[] {
  const open: string[] = [];
  const list: ReturnType<typeof elements> = [];
  let rest = xml.trim();
  while (rest !== '') {
    const tag = /^<(\/?)([a-z]+)((?:\s+[a-zA-Z:-]+="[^"<]*")*)\s*(\/?)>/.exec(rest);
    if (tag === null) {
      const text = /^[^<]+/.exec(rest)?.[0];
      expect(text, rest.slice(0, 80)).toBeDefined();
      expect(text).not.toMatch(/&(?!#\d+;)/);
      list.at(-1)!.text += text!.replace(/&#(\d+);/g, (_, code: string) => String.fromCharCode(Number(code)));
      rest = rest.slice(text!.length);
      continue;
    }
    const [all, closing, name, attributes, empty] = tag as unknown as [string, string, string, string, string];
    if (closing === '/') expect(open.pop()).toBe(name);
    else {
      const pairs = [...attributes.matchAll(/([a-zA-Z:-]+)="([^"]*)"/g)].map(([, key, value]) => [key!, value!] as const);
      expect(new Set(pairs.map(([key]) => key)).size).toBe(pairs.length);
      list.push({ name, attributes: Object.fromEntries(pairs), text: '' });
      if (empty === '') open.push(name);
    }
    rest = rest.slice(all.length);
  }
  expect(open).toEqual([]);
  return list.map((element) => ({ ...element, text: element.text.trim() }));
}

const blocks = (list: ReturnType<typeof elements>) =>
  list.flatMap(({ name, text }, i) => (name === 'title' ? [{ text: /^(.+): (\d+) bytes$/.exec(text)!.slice(1), width: Number(list[i - 1]!.attributes['width'] ?? NaN) }] : []));

test('the bars are the plan’s numbers, to scale', () => {
  const list = elements(pictureOf(found));
  const [memory] = found.memory;
  const drawn = blocks(list);
  expect(drawn.map(({ text }) => text)).toEqual([
    ['weights', String(memory!.weightBytes)], ['KV cache', String(memory!.kvBytes)], ['compute', String(memory!.computeBytes)], ['cache', String(memory!.cacheBytes)],
    ['others', String(memory!.totalBytes - memory!.freeBytes)], ['left alone', String(memory!.reserveBytes)],
  ]);
  const whole = list.find(({ attributes }) => attributes['fill'] === 'none')!;
  for (const { text: [, bytes], width } of drawn.slice(0, -1)) expect(width / Number(whole.attributes['width'])).toBeCloseTo(Number(bytes) / memory!.totalBytes, 4);
  expect(list.map(({ text }) => text)).toContain(found.reasons[0]!.message);
  expect(list.some(({ text }) => /context 2048 · 1 sequence · KV cache f16 · on cpu · fits/.test(text))).toBe(true);
});

test('a plan that does not fit goes beyond its frame, and stays within the picture', () => {
  const [memory] = found.memory;
  const large: Plan = { ...found, fits: false, memory: [{ ...memory!, weightBytes: 3 * memory!.totalBytes, bytes: 3 * memory!.totalBytes }] };
  const list = elements(pictureOf(large));
  const [weights] = blocks(list);
  const whole = list.find(({ attributes }) => attributes['fill'] === 'none')!;
  expect(weights!.width).toBeCloseTo(3 * Number(whole.attributes['width']), 0);
  for (const { name, attributes } of list) if (name === 'rect') expect(Number(attributes['x']) + Number(attributes['width'])).toBeLessThanOrEqual(860);
  expect(list.some(({ text }) => text.endsWith('does not fit'))).toBe(true);
});

test('names from files are text, and nothing else', () => {
  const list = elements(pictureOf({ ...found, model: { ...found.model, name: '</text><script>"&\u0007' }, reasons: [{ code: 'fit', message: 'a < b & c' }] }));
  expect(list.some(({ name }) => name === 'script')).toBe(false);
  expect(list.map(({ text }) => text)).toEqual(expect.arrayContaining([expect.stringContaining('</text><script>"&�'), 'a < b & c']));
});
