import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { benchmarkKernels, caches, kernelTable, presetShapes, readShape, roofline, shapeName } from '../../dist/bench/index.js';
import type { KernelOptions, KernelReport } from '../../dist/bench/index.js';
import { checked } from '../../dist/bench/kernels.js';
import { presets } from '../../dist/gguf/index.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-kernels-'));
const cli = (...args: string[]) => spawnSync(process.execPath, ['dist/cli/main.js', 'kernels', ...args], { encoding: 'utf8' });

// Every kernel of this processor, on small matrices, in short samples.
const small: KernelOptions = {
  types: ['tq1_0', 'tq2_0', 'stq1_0', 'q8_0', 'q4_K'],
  shapes: [{ rows: 96, columns: 512 }, { rows: 40, columns: 256, experts: 6, used: 2 }],
  tokens: [1, 9], threads: [1, 2], kernels: 'all', repetitions: 2, sampleMs: 1, streamBytes: 100_000,
};
// What is refused is refused before anything is measured.
const refused = (options: object) => expect(benchmarkKernels(options)).rejects;

let report: KernelReport;
const seen: (readonly [number, string])[] = [];

beforeAll(async () => {
  report = await benchmarkKernels({ ...small, onProgress: (...progress) => seen.push(progress) });
}, 240_000);

describe('benchmarkKernels', () => {
  test('measures every kernel in every case, beside upstream', () => {
    const { figures, ceilings, missing } = report;
    expect(ceilings.every(({ placement }) => placement === 'cache')).toBe(true);
    for (const type of small.types ?? []) {
      for (const { rows, experts } of small.shapes ?? []) {
        for (const tokens of small.tokens ?? []) {
          for (const threads of small.threads ?? []) {
            for (const placement of ['streaming', 'resident']) {
              const of = figures.filter((each) => each.type === type && each.rows === rows && each.experts === experts && each.tokens === tokens && each.threads === threads && each.placement === placement);
              const names = of.map(({ kernels }) => kernels);
              expect(names).toContain('upstream');
              expect(names.includes('scalar'), type).toBe(type !== 'q4_K');
              expect(of[0]?.kernels, 'what llama.cpp asks first').toMatch(/^upstream/);
            }
            const ceiling = ceilings.filter((each) => each.type === type && each.tokens === tokens && each.threads === threads);
            expect(ceiling.map(({ kernels }) => kernels)).toContain('upstream');
          }
        }
      }
    }
    expect(missing.every(({ type, reason }) => type === 'q4_K' && reason.includes('do not multiply q4_K'))).toBe(true);
    expect(missing.some(({ kernels }) => kernels.includes('scalar'))).toBe(true);
  });

  test('every figure has times, rates that follow from them, and a small error', () => {
    for (const figure of [...report.figures, ...report.ceilings]) {
      const { timeMs, rows, columns, tokens, used = 1, bytes, error, kernels, type } = figure;
      expect(timeMs.samples).toHaveLength(2);
      expect(timeMs.q1).toBeLessThanOrEqual(timeMs.median);
      expect(figure.gigaweightsPerSecond.median * timeMs.median).toBeGreaterThan(0);
      const weights = rows * columns * tokens * used;
      expect(figure.weightsPerByte).toBeCloseTo(weights / bytes, 2);
      expect(figure.gigaweightsPerSecond.median / figure.gigabytesPerSecond.median / figure.weightsPerByte).toBeCloseTo(1, 2);
      // Of two samples the median is their mean, and a mean of rates is not the rate of a mean.
      const rates = timeMs.samples.map((ms) => weights / ms / 1e6);
      expect(figure.gigaweightsPerSecond.median / ((rates[0]! + rates[1]!) / 2)).toBeCloseTo(1, 2);
      expect(figure.op).toBe(figure.experts === undefined ? 'mul_mat' : 'mul_mat_id');
      expect(error.outputs).toBeGreaterThan(0);
      expect(error.rms, `${kernels} ${type}`).toBeGreaterThan(1e-4); // activations are rounded
      expect(error.rms, `${kernels} ${type}`).toBeLessThan(0.02);
      if (figure.ours) expect(error.fromScalar, `${kernels} ${type}`).toBeLessThanOrEqual(1e-6);
      if (type === 'q4_K') expect(error.fromScalar).toBeNull();
      if (kernels === 'scalar') expect(error.fromScalar).toBe(0);
      expect(figure.bandwidthShare === null).toBe(figure.placement !== 'streaming');
      expect(figure.speedup.to).toMatch(/^upstream/);
      expect(figure.products).toBeGreaterThan(0);
    }
  });

  test('says what the machine allows', () => {
    for (const threads of [1, 2]) {
      expect(report.readGigabytesPerSecond[threads]).toBeGreaterThan(0.5);
      if (report.multiplyAdd !== null) expect(report.multiplyAdd.gigaproductsPerSecond[threads]).toBeGreaterThan(1);
    }
    if (process.arch === 'x64' && report.machine.cpu.includes('avx2')) expect(report.multiplyAdd).not.toBeNull();
    const streaming = report.figures.find(({ placement }) => placement === 'streaming')!;
    expect(streaming.bandwidthShare).toBeCloseTo(streaming.gigabytesPerSecond.median / report.readGigabytesPerSecond[streaming.threads]!, 3);
    expect(report.settings).toMatchObject({ repetitions: 2, sampleMs: 1, streamBytes: 100_000 });
  });

  test('is plain data and tells its progress', () => {
    expect(JSON.parse(JSON.stringify(report))).toEqual(report);
    const measured = seen.filter(([, what]) => what !== 'bounds');
    expect(measured.map(([fraction]) => fraction)).toEqual([...measured.map(([fraction]) => fraction)].sort((a, b) => a - b));
    expect(measured.at(-1)![0]).toBeLessThanOrEqual(1);
    expect(measured.at(-1)![0]).toBeGreaterThan(0.95);
    expect(new Set(measured.map(([, what]) => what))).toContain('tq2_0 96x512, 9 tokens, streaming');
  });

  test('only what was asked for', { timeout: 60_000 }, async () => {
    const one = await benchmarkKernels({ ...small, types: ['tq2_0'], shapes: [{ rows: 64, columns: 256 }], tokens: [2], threads: [1], kernels: ['scalar'], placements: ['resident'], repetitions: 1 });
    expect(one.figures.map(({ kernels }) => kernels)).toEqual(['upstream', 'scalar']);
    expect(one.figures.every(({ placement, tokens, threads }) => placement === 'resident' && tokens === 2 && threads === 1)).toBe(true);
    const fastest = await benchmarkKernels({ ...small, types: ['tq2_0'], tokens: [1], threads: [1], kernels: undefined, placements: ['resident'], repetitions: 1 });
    expect(fastest.figures.filter(({ ours }) => ours)).toHaveLength(2); // one for each shape
  });

  test('a matrix that no cache holds has no resident figure', { timeout: 60_000 }, async () => {
    const { lastLevelBytes } = caches();
    const rows = 2 * Math.ceil(lastLevelBytes / 4096);
    const { figures, missing } = await benchmarkKernels({ types: ['q8_0'], shapes: [{ rows, columns: 4096 }], tokens: [1], threads: [1], kernels: ['scalar'], placements: ['resident'], repetitions: 1, sampleMs: 1 });
    expect(figures).toEqual([]);
    expect(missing).toHaveLength(1);
    expect(missing[0]).toMatchObject({ rows, placement: 'resident', reason: expect.stringContaining('last-level cache') as string });
  });

  test('refuses what cannot be, and says what can', async () => {
    const invalid = (message: RegExp) => ({ code: 'ERR_INVALID_ARG', message: expect.stringMatching(message) as string });
    await refused({ types: ['tq3_0'] }).toMatchObject(invalid(/types\[0\] must be one of .*'tq2_0'/));
    await refused({ kernels: ['avx513'] }).toMatchObject(invalid(/no kernels 'avx513'.*only .*upstream.*scalar/));
    await refused({ kernels: ['scaler'] }).toMatchObject(invalid(/did you mean 'scalar'/));
    await refused({ kernels: 'slowest' }).toMatchObject(invalid(/'fastest', 'all' or an array/));
    await refused({ shapes: [{ rows: 64, columns: 100 }], types: ['tq2_0'] }).toMatchObject(invalid(/tq2_0 takes rows of a multiple of 256 weights; found 64x100/));
    await refused({ shapes: [{ rows: 0, columns: 256 }] }).toMatchObject(invalid(/shapes\[0\]\.rows must be an integer from 1/));
    await refused({ shapes: [{ rows: 64 }] }).toMatchObject(invalid(/shapes\[0\]\.columns/));
    await refused({ shapes: [{ rows: 64, columns: 256, experts: 4 }] }).toMatchObject(invalid(/`experts` and at most as many `used`/));
    await refused({ shapes: [{ rows: 64, columns: 256, experts: 4, used: 5 }] }).toMatchObject(invalid(/`experts` and at most as many `used`/));
    await refused({ shapes: [{ rows: 64, columns: 256, experst: 4 }] }).toMatchObject(invalid(/did you mean "experts"/));
    await refused({ shapes: [] }).toMatchObject(invalid(/an array of shapes/));
    await refused({ tokens: [1, 1] }).toMatchObject(invalid(/none of them twice/));
    await refused({ tokens: [0] }).toMatchObject(invalid(/tokens\[0\]/));
    await refused({ threads: [1000] }).toMatchObject(invalid(/threads\[0\] must be an integer from 1 to 512/));
    await refused({ repetitons: 5 }).toMatchObject(invalid(/did you mean "repetitions"/));
    await refused({ streamBytes: 2 ** 40 }).toMatchObject({ code: 'ERR_OUT_OF_MEMORY' });
  });

  test('can be aborted, before and while it runs', { timeout: 60_000 }, async () => {
    await refused({ signal: AbortSignal.abort() }).toMatchObject({ code: 'ERR_ABORTED' });
    const slow: KernelOptions = { types: ['tq2_0'], shapes: [{ rows: 2048, columns: 2048 }], tokens: [128], threads: [1], kernels: ['scalar'], repetitions: 1000, streamBytes: 1 };
    const controller = new AbortController();
    let aborted = 0;
    const running = benchmarkKernels({
      ...slow, signal: controller.signal,
      onProgress: (_, what) => {
        if (what === 'bounds' || aborted > 0) return;
        aborted = performance.now() + 1000; // in the midst of a sample of the scalar kernels, which takes longer
        setTimeout(() => controller.abort(), 1000);
      },
    });
    await expect(running).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect(performance.now() - aborted).toBeLessThan(20_000);
  });
});

test('a result that rounding does not explain is an error, not a figure', () => {
  const where = report.figures[0]!;
  const error = { outputs: 1, rms: 0.004, largest: 0.004, fromScalar: 1e-7 };
  expect(checked(error, 'avx2', true, where)).toEqual(error);
  expect(checked({ ...error, fromScalar: 1e-5 }, 'upstream', false, where).fromScalar).toBe(1e-5);
  expect(checked({ ...error, fromScalar: -1 }, 'upstream', false, where).fromScalar).toBeNull();
  for (const [wrong, ours] of [[{ fromScalar: 1e-5 }, true], [{ fromScalar: NaN }, true], [{ rms: 0.05 }, false], [{ rms: NaN }, false]] as const) {
    expect(() => checked({ ...error, ...wrong }, 'fast', ours, where)).toThrow(/fast computes tq1_0 96x512, 1 token, streaming wrongly/);
  }
});

describe('roofline', () => {
  test('has a point for each figure, a line for each ceiling, and is well-formed', () => {
    const svg = roofline(report);
    expect(svg.match(/class="p"/g)).toHaveLength(report.figures.length);
    expect(svg.match(/class="c"/g)).toHaveLength(report.ceilings.length);
    expect(svg.match(/class="r"/g)).toHaveLength(2); // a roof for each thread count
    expect(svg).toContain('prefers-color-scheme: dark');
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
    const open: string[] = [];
    for (const [, close, name, self] of svg.matchAll(/<(\/?)(\w+)[^<>]*?(\/?)>/g)) {
      if (close === '/') expect(open.pop()).toBe(name);
      else if (self !== '/') open.push(name!);
    }
    expect(open).toEqual([]);
    expect(svg.replace(/<[^<>]*>/g, '')).not.toMatch(/[<>]|&(?!#\d+;)/);
  });

  test('points stay inside their panel, and do without a multiply-add rate', () => {
    const svg = roofline({ ...report, multiplyAdd: null });
    const points = [...svg.matchAll(/translate\(([\d.]+) ([\d.]+)\)" class="p"/g)].map(([, x, y]) => [Number(x), Number(y)] as const);
    expect(points).toHaveLength(report.figures.length);
    expect(points.every(([x, y]) => x > 64 && x < 836 && y > 0)).toBe(true);
  });
});

test('a table has a block for each case and a row for each figure', () => {
  const text = kernelTable(report);
  expect(text).toContain('tq2_0 40x256x6/2, 9 tokens, streaming');
  expect(text).toMatch(/memory reads .* GB\/s with 1 thread, .* with 2 threads/);
  expect(text.match(/µs \(/g)).toHaveLength(report.figures.length + report.ceilings.length);
  expect(text).toContain('not measured with');
});

describe('shapes', () => {
  test('have names that can be read', () => {
    for (const shape of [{ rows: 6912, columns: 2560 }, { rows: 768, columns: 2048, experts: 128, used: 8 }]) expect(readShape(shapeName(shape))).toEqual(shape);
    for (const text of ['', '12', '12x', '12x13x4', 'axb', '12x13x4/']) expect(readShape(text), text).toBeUndefined();
  });

  test('of presets are those of the layers', () => {
    const names = (name: keyof typeof presets) => presetShapes(name).map(shapeName);
    expect(names('bitnet-b1.58-2B-4T')).toEqual(['6912x2560', '2560x6912', '2560x2560', '640x2560']);
    expect(names('Qwen3-30B-A3B')).toContain('768x2048x128/8');
    expect(names('gpt-oss-20B')).toContain('2880x2880x32/4');
    for (const name of Object.keys(presets) as (keyof typeof presets)[]) expect(presetShapes(name).length, name).toBeGreaterThan(1);
    expect(() => presetShapes('bitnet' as never)).toThrow(/no preset 'bitnet'/);
  });
});

describe('caches', () => {
  const machine = (cpus: Record<string, [level: number, type: string, size: string, shared: string][]>): string => {
    const root = mkdtempSync(join(folder, 'cpu-'));
    for (const [cpu, list] of Object.entries(cpus)) {
      mkdirSync(join(root, cpu));
      for (const [i, [level, type, size, shared]] of list.entries()) {
        const at = join(root, cpu, 'cache', `index${i}`);
        mkdirSync(at, { recursive: true });
        for (const [name, value] of Object.entries({ level, type, size, shared_cpu_list: shared })) writeFileSync(join(at, name), `${value}\n`);
      }
    }
    return root;
  };

  test('several last-level caches count together, one that is shared once', () => {
    const core = (n: number, group: string): [number, string, string, string][] => [[1, 'Data', '48K', `${n}`], [1, 'Instruction', '32K', `${n}`], [2, 'Unified', '1024K', `${n}`], [3, 'Unified', '32M', group]];
    expect(caches(machine({ cpu0: core(0, '0-1'), cpu1: core(1, '0-1'), cpu2: core(2, '2-3'), cpu3: core(3, '2-3'), cpufreq: [] }))).toEqual({ l2Bytes: 2 ** 20, lastLevelBytes: 64 * 2 ** 20, known: true });
    expect(caches(machine({ cpu0: [[1, 'Data', '32K', '0'], [2, 'Unified', '512K', '0-3']] }))).toEqual({ l2Bytes: 512 * 1024, lastLevelBytes: 512 * 1024, known: true });
  });

  test('are guessed where nothing is said', () => {
    for (const folder of ['/nowhere', machine({ cpu0: [] }), machine({ cpu0: [[2, 'Unified', 'large', '0']] })]) expect(caches(folder)).toMatchObject({ known: false, lastLevelBytes: 64 * 2 ** 20 });
  });
});

describe('ternion kernels', () => {
  const quick = ['--types', 'tq2_0', '--tokens', '1', '--threads', '1', '--repetitions', '1', '--sample-ms', '1', '--stream-bytes', '100000'];

  test('prints a table, or a report, and draws', { timeout: 60_000 }, () => {
    const json = cli(...quick, '--shapes', '64x256, 32x256x4/2', '--kernels', 'scalar', '--json', '--plot', join(folder, 'plot.svg'));
    expect(json.status, json.stderr).toBe(0);
    const parsed = JSON.parse(json.stdout) as KernelReport;
    expect(parsed.format).toBe(1);
    expect(parsed.figures).toHaveLength(2 * 2 * 2);
    expect(readFileSync(join(folder, 'plot.svg'), 'utf8').match(/class="p"/g)).toHaveLength(parsed.figures.length);
    const text = cli(...quick, '--preset', 'S', '--resident');
    expect(text.status, text.stderr).toBe(0);
    expect(text.stdout).toContain('tq2_0 768x256, 1 token, resident');
    expect(text.stdout).not.toContain('streaming\n');
    expect(text.stderr).toBe('');
  });

  test('wrong usage ends with 2', () => {
    for (const args of [['--shapes', '64'], ['--preset', 'nothing'], ['--types', 'tq9'], ['--kernels', 'fast'], ['--tokens', 'many'], ['--repetitions', '0'], ['--repetitions', 'x'], ['model.gguf'], ['--fast']]) {
      expect(cli(...args).status, args.join(' ')).toBe(2);
    }
    expect(cli('--help').stdout).toContain('--plot FILE');
  });
});
