import { describe, expect, test } from 'vitest';
import { Skipped, alternate, chart, changes, judged, pairedRatio, panels, summarize, table } from '../../dist/bench/index.js';
import type { BenchReport, Figure } from '../../dist/bench/index.js';

describe('alternate', () => {
  test('takes the systems in turns, each round from another one on, and drops the first round', async () => {
    const order: string[] = [];
    const counting = (name: string) => () => Promise.resolve(order.push(name));
    const { values } = await alternate(new Map([['a', counting('a')], ['b', counting('b')]]), 2);
    expect(order).toEqual(['a', 'b', 'b', 'a', 'a', 'b']);
    expect(values.get('a')).toEqual([4, 5]);
    expect(values.get('b')).toEqual([3, 6]);
  });

  test('a system that has no figure is asked once and says why', async () => {
    let asked = 0;
    const { values, skipped } = await alternate(new Map([['a', () => Promise.resolve(1)], ['b', () => Promise.resolve(asked++ === 0 ? new Skipped('cannot') : 1)]]), 3);
    expect(asked).toBe(1);
    expect(values.has('b')).toBe(false);
    expect(skipped.get('b')).toBe('cannot');
  });

  test('an abort ends it between two samples', async () => {
    const controller = new AbortController();
    const sample = () => {
      controller.abort();
      return Promise.resolve(1);
    };
    await expect(alternate(new Map([['a', sample]]), 3, { signal: controller.signal })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  });
});

describe('figures', () => {
  test('quartiles are interpolated', () => {
    expect(summarize([4, 1, 3, 2])).toEqual({ median: 2.5, q1: 1.75, q3: 3.25, min: 1, max: 4, samples: [4, 1, 3, 2] });
    expect(summarize([7])).toMatchObject({ median: 7, q1: 7, q3: 7 });
  });

  test('ratios are of the same round', () => {
    expect(pairedRatio([10, 40], [5, 20])).toMatchObject({ min: 2, max: 2 });
  });

  test('what the control cannot tell apart is a tie', () => {
    const control = pairedRatio([95, 100, 105], [100, 100, 100]); // quartiles 2.5 % around 1
    expect(judged(summarize([1.02]), control).tie).toBe(true);
    expect(judged(summarize([1.03]), control).tie).toBe(false);
    expect(judged(summarize([0.97]), control).tie).toBe(false);
    // Nor what swings around 1 by itself.
    expect(judged(summarize([0.8, 0.9, 1.2, 1.3]), control).tie).toBe(true);
  });
});

describe('reports', () => {
  const figure = (system: string, samples: number[], unit: Figure['unit'] = 'tok/s'): Figure => ({ test: 'decode', system, unit, ...summarize(samples) });
  const report = (ours: number[], cpu = 'one'): BenchReport => ({
    format: 1,
    machine: { cpu, cores: 2, memoryGiB: 8, os: 'linux', node: 'v20', engine: {}, date: '2026-01-01T00:00:00.000Z' },
    model: { name: 'A <b> & "c"', file: 'a.gguf', bytes: 2 ** 20, parameters: 1e6, quantization: 'TQ2_0' },
    settings: { devices: ['cpu'], threads: 2, gpuLayers: 0, kv: 'f16', rounds: 2, tokens: 8, sessionTokens: 8 },
    peers: [],
    readGigabytesPerSecond: { 1: 10, 2: 20 },
    figures: [figure('ternion', ours), figure('ternion, again', ours), figure('other', [50, 50])],
    ratios: [{ test: 'decode', system: 'ternion', to: 'other', ...judged(pairedRatio(ours, [50, 50]), summarize([1])) }],
    missing: [{ test: 'decode at 4096', system: 'ternion', reason: 'the model was trained for 2048 tokens' }],
  });

  test('the table has every figure, the ratio and what is missing', () => {
    const text = table(report([100, 100]));
    expect(text).toContain('ternion = 2.000 × other (2.000 to 2.000)');
    expect(text).toContain('not measured: the model was trained for 2048 tokens');
    expect(text).toContain('10 GB/s with 1 thread, 20 GB/s with 2 threads');
  });

  test('the chart is well-formed, escaped, and leaves the control out', () => {
    const svg = chart(panels(report([100, 100])), 'a note');
    expect(svg).not.toMatch(/<b>|again/);
    expect(svg).toContain('&#60;b&#62; &#38; &#34;c&#34;');
    const tags = [...svg.matchAll(/<(\/?)(\w+)[^>]*?(\/?)>/g)].filter(([, , , closed]) => !closed);
    expect(tags.filter(([, slash]) => slash).length).toBe(tags.filter(([, slash]) => !slash).length);
    // The longest bar is the highest rate.
    const widths = [...svg.matchAll(/<rect [^>]*width="([\d.]+)"/g)].map(([, width]) => Number(width));
    expect(widths[0]).toBeCloseTo(2 * (widths[1] as number), 0);
  });

  test('changes are called by name only where quartiles are apart', () => {
    const text = changes(report([100, 102]), report([101, 103]));
    expect(text).toMatch(/decode, ternion {2}.*quartiles overlap/);
    expect(changes(report([100, 100]), report([150, 150]))).toMatch(/decode, ternion {2}.*\+50\.0 %$/m);
    expect(changes(report([100, 100], 'another'), report([1, 1]))).toContain('Another machine');
  });
});
