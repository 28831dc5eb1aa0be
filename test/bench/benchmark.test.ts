import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { presets, synthesize } from '../../dist/gguf/index.js';
import { loadModel } from '../../dist/index.js';
import { Skipped, benchmark, llamaBatchedBench, llamaBench, readBandwidth } from '../../dist/bench/index.js';
import type { Peer, PeerSettings } from '../../dist/bench/index.js';
import { beginning, textOf } from '../../dist/bench/prompt.js';
import { Subject } from '../../dist/bench/subject.js';

const model = 'models/tern-5m-tq2_0.gguf';
const bin = '.build/cmake/bin';
const small = { devices: ['cpu'], threads: 1, rounds: 1, tokens: 8 } as const;
const folder = mkdtempSync(join(tmpdir(), 'ternion-bench-'));
const cli = (...args: string[]) => spawnSync(process.execPath, ['dist/cli/main.js', 'bench', ...args], { encoding: 'utf8' });

describe('benchmark', () => {
  test('measures every group, beside upstream and a peer of the caller', { timeout: 120_000 }, async () => {
    const seen: string[] = [];
    let closed = 0;
    const peers = (settings: PeerSettings): Peer[] => {
      expect(settings).toEqual({ path: model, threads: 1, devices: ['cpu'], gpuLayers: 0, kv: undefined });
      return [
        llamaBench(`${bin}/llama-bench`, settings),
        llamaBatchedBench(`${bin}/llama-batched-bench`, settings),
        {
          name: 'half', version: '0.5',
          decode: (tokens, depth) => Promise.resolve(depth > 0 ? new Skipped('shallow') : tokens),
          close: () => Promise.resolve(void closed++),
        },
      ];
    };
    const report = await benchmark(model, { ...small, prompts: [16], depths: [0, 32, 4096], sessions: [2], peers, onProgress: (_, what) => seen.push(what) });
    const figure = (name: string, system = 'ternion') => report.figures.find((each) => each.test === name && each.system === system)?.median ?? 0;
    for (const name of ['import', 'load, mapped', 'process start to first token', 'peak resident memory', 'prefill 16', 'decode', 'decode at 32', '2 sessions', 'abort during a prefill of 2000']) {
      expect(figure(name), name).toBeGreaterThan(0);
    }
    for (const name of ['prefill 16', 'decode', 'decode at 32']) expect(figure(name, 'llama-bench'), name).toBeGreaterThan(0);
    expect(figure('2 sessions', 'llama-batched-bench')).toBeGreaterThan(0);
    expect(figure('decode', 'half')).toBe(8);
    expect(report.missing).toContainEqual({ test: 'decode at 32', system: 'half', reason: 'shallow' });
    expect(report.missing).toContainEqual({ test: 'decode at 4096', system: 'ternion', reason: 'the model was trained for 2048 tokens' });
    expect(report.ratios.find(({ test, to }) => test === 'decode' && to === 'half')?.median).toBeGreaterThan(0);
    expect(report.ratios.some(({ system, to }) => system === 'ternion, again' && to === 'ternion')).toBe(true);
    expect(report.figures.some(({ system }) => system === '1 thread, main thread busy')).toBe(true);
    expect(figure('peak resident memory')).toBeGreaterThan(20e6);
    expect(new Set(seen)).toContain('decode at 32');
    expect(report.peers).toContainEqual({ name: 'half', version: '0.5' });
    expect(report.settings).toMatchObject({ threads: 1, tokens: 8, kv: 'f16' });
    expect(closed).toBe(1);
    expect(JSON.parse(JSON.stringify(report))).toEqual(report);
  });

  test('refuses what cannot be', async () => {
    await expect(benchmark(model, { ...small, rounds: 0 })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
    await expect(benchmark(model, { ...small, depths: [-1] })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
    await expect(benchmark(model, { ...small, tests: ['speed' as never] })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
    await expect(benchmark('nowhere.gguf', small)).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_FOUND' });
    await expect(benchmark('package.json', small)).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
    const decodeWith = (...peers: Peer[]) => benchmark(model, { ...small, tests: ['decode'], depths: [0], peers: () => peers });
    const settings = { path: model, threads: 1, devices: ['cpu'], gpuLayers: 0, kv: undefined };
    await expect(decodeWith(llamaBench(join(folder, 'no-such-program'), settings))).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
    await expect(decodeWith(llamaBench(process.execPath, settings))).rejects.toMatchObject({ code: 'ERR_INTERNAL' });
    await expect(decodeWith({ name: 'ternion' })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
    await expect(decodeWith({ name: 'nothing', decode: () => Promise.resolve(NaN) })).rejects.toMatchObject({ code: 'ERR_INTERNAL' });
  });

  test('closes its peers after an error', async () => {
    let closed = false;
    const broken = { name: 'broken', decode: () => Promise.reject(new Error('broken')), close: () => Promise.resolve(void (closed = true)) };
    await expect(benchmark(model, { ...small, tests: ['decode'], depths: [0], peers: () => [broken] })).rejects.toThrow('broken');
    expect(closed).toBe(true);
  });

  test.each(['startup', 'decode', 'sessions'] as const)('can be aborted during %s', async (group) => {
    const controller = new AbortController();
    const run = benchmark(model, { ...small, rounds: 1000, tests: [group], signal: controller.signal, onProgress: () => setTimeout(() => controller.abort(), 100) });
    await expect(run).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  });

  test('an abort ends a program that is running', { timeout: 20_000 }, async () => {
    const controller = new AbortController();
    const sleeper = join(folder, 'sleeper');
    writeFileSync(sleeper, '#!/bin/sh\nexec sleep 60\n', { mode: 0o755 });
    const peers = (settings: PeerSettings) => [llamaBench(sleeper, { ...settings, signal: controller.signal })];
    const run = benchmark(model, { ...small, tests: ['decode'], depths: [0], peers, signal: controller.signal, onProgress: (fraction) => fraction > 0.3 && setTimeout(() => controller.abort(), 300) });
    await expect(run).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  });

  test('greedy text that differs between samples is an error, not a figure', async () => {
    const texts = new Map([['decode 8 at 0', 'what a wrong kernel says']]);
    const subject = await Subject.open(model, { devices: ['cpu'], threads: 1, context: 64, sequences: 1, texts });
    await expect(subject.decode(8)).rejects.toThrow('greedy text differs');
    await subject.close();
  });
});

test.each([
  ['models/tern-5m-tq2_0.gguf', undefined, 0], // byte-level BPE with a begin token
  ['S', 'vendor/llama/models/ggml-vocab-llama-spm.gguf', 32_000], // SentencePiece: a space before every text
  ['S', 'vendor/llama/models/ggml-vocab-qwen2.gguf', 151_936], // no begin token
])('prompts of an exact length with the vocabulary of %s, %s', async (name, tokenizer, vocabulary) => {
  const path = tokenizer === undefined ? name : join(folder, 'vocabulary.gguf');
  if (tokenizer !== undefined) await synthesize(path, { ...presets.S.shape, layers: 1, vocabulary }, { types: presets.S.types, tokenizer });
  const loaded = await loadModel(path, { devices: ['cpu'], context: 64 });
  for (const tokens of [2, 16, 128, 512]) {
    for (const seed of [1, 2, 87, 88]) expect((await loaded.tokenize(await textOf(loaded, tokens, seed), { bos: true })).length).toBe(tokens);
  }
  const session = await loaded.session();
  expect((await session.complete(await beginning(loaded), { maxTokens: 1, ignoreEos: true })).usage.generated).toBe(1);
  await loaded.dispose();
});

test('readBandwidth reads memory', async () => {
  expect(await readBandwidth(1)).toBeGreaterThan(5e8);
  await expect(readBandwidth(0)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG' });
  await expect(readBandwidth(1, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  await expect(readBandwidth(1, { signal: AbortSignal.timeout(20) })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
});

describe('ternion bench', () => {
  const quick = ['--device', 'cpu', '--threads', '1', '--rounds', '1', '--tokens', '8', '--tests', 'decode', '--depths', '0'];

  test('prints a table, a report, a chart, and what changed', { timeout: 60_000 }, () => {
    const json = cli(...quick, '--json', '--svg', join(folder, 'chart.svg'));
    expect(json.status, json.stderr).toBe(0);
    const report = JSON.parse(json.stdout) as { format: number };
    expect(report.format).toBe(1);
    expect(readFileSync(join(folder, 'chart.svg'), 'utf8')).toContain('<svg');
    writeFileSync(join(folder, 'old.json'), json.stdout);
    const again = cli(model, ...quick, '--compare', join(folder, 'old.json'));
    expect(again.stdout).toMatch(/decode\n {2}ternion/);
    expect(again.stdout).toMatch(/decode, ternion {2}.*%/);
  });

  test('wrong usage ends with 2', () => {
    expect(cli('--tests', 'speed').status).toBe(2);
    expect(cli('--depths', 'deep').status).toBe(2);
    expect(cli('--rounds', '0').status).toBe(2);
    expect(cli('--compare', 'package.json').stderr).toContain('is not a report');
    expect(cli('a.gguf', 'b.gguf').status).toBe(2);
    expect(cli('nowhere.gguf').stderr).toContain('ERR_MODEL_NOT_FOUND');
  });
});
