import { execFileSync } from 'node:child_process';
import { closeSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { inspect, synthesize } from '../../dist/gguf/index.js';
import type { Shape } from '../../dist/gguf/index.js';
import { loadModel } from '../../dist/index.js';
import type { Model } from '../../dist/index.js';

const larger: Shape = {
  architecture: 'llama', layers: 4, width: 1024, feedForward: 4096, heads: 16, kvHeads: 4, headSize: 64, vocabulary: 4096, context: 512, ropeBase: 1e4, epsilon: 1e-5, tied: false,
};
const dense = 'models/tern-5m-tq2_0.gguf';
const sherry = 'models/tern-5m-sherry-stq1_0.gguf';
const home = mkdtempSync(join(tmpdir(), 'ternion-ways-'));

afterEach(() => delete process.env['TERNION_KERNEL']);
afterAll(() => rmSync(home, { recursive: true }));

const open = (file: string, kernels: string): Promise<Model> => {
  process.env['TERNION_KERNEL'] = kernels;
  return loadModel(file, { devices: ['cpu'], context: 256 });
};

const refusal: unknown = await open(dense, 'none of these').catch((e: unknown) => e);
const names = /only upstream, (.*)$/.exec((refusal as Error).message)?.[1]?.split(', ') ?? [];
const [fastest] = names;
const withWays = names.includes(`${fastest}/quints`); // AVX-512 VBMI2

describe.skipIf(!withWays)('ways of holding weights', () => {
  test.each([[dense, ['ternary', 'quints'], 'tq2_0'], [sherry, ['multiply', 'lookup'], 'stq1_0']] as const)('of %s give the same text, and are shown', async (file, ways, type) => {
    const texts = new Set<string>();
    for (const way of ways) {
      const model = await open(file, `${fastest}/${way}`);
      expect(model.placement.packed.filter((kind) => kind.type === type).map((kind) => kind.way)).toEqual([way]);
      expect(model.placement.packed.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(model.placement.packedBytes);
      const session = await model.session();
      texts.add((await session.complete('Once upon a time', { temperature: 0, maxTokens: 64, ignoreEos: true })).text);
      await model.dispose();
    }
    expect(texts.size).toBe(1);
  });

  test('a code of 3 in TQ2_0, which five weights in a byte have no room for, keeps two bits a weight', async () => {
    const odd = join(home, 'odd.gguf');
    copyFileSync(dense, odd);
    const { tensors, dataOffset } = await inspect(odd);
    const tensor = tensors.find(({ type }) => type === 'tq2_0');
    const file = openSync(odd, 'r+');
    writeSync(file, Buffer.from([0xff]), 0, 1, dataOffset + (tensor?.offset ?? 0));
    closeSync(file);
    const logits: Float32Array[] = [];
    for (const way of ['quints', 'ternary']) {
      const model = await open(odd, `${fastest}/${way}`);
      expect(model.placement.packed.filter(({ type }) => type === 'tq2_0').map((kind) => kind.way)).toEqual(['ternary']);
      logits.push(await model.logits(await model.tokenize('Once upon a time')));
      await model.dispose();
    }
    expect(logits[0]).toEqual(logits[1]);
  });

  // What a process has found out it does not forget, so others are asked.
  const chosenBy = (folder: string): string => {
    const program = `
      import { loadModel } from ${JSON.stringify(join(process.cwd(), 'dist/index.js'))};
      const model = await loadModel(${JSON.stringify(dense)}, { devices: ['cpu'], context: 128, packCache: { folder: ${JSON.stringify(folder)} } });
      console.log(JSON.stringify(model.placement.packed.filter(({ type }) => type === 'tq2_0').map(({ way }) => way)));
      await model.dispose();`;
    return execFileSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' }).trim();
  };

  const cases = (lines: string[]): string[] => lines.map((line) => line.replace(/ (quints|ternary)$/, ''));

  test('are tried once on a machine', () => {
    const folder = join(home, 'packs');
    const timings = join(folder, 'timings-1.txt');
    chosenBy(folder);
    const [processor, ...lines] = readFileSync(timings, 'utf8').trim().split('\n');
    expect(lines.length).toBeGreaterThan(0);
    for (const way of ['quints', 'ternary']) {
      const text = [processor, ...lines.map((line) => line.replace(/ (quints|ternary)$/, ` ${way}`)), ''].join('\n');
      writeFileSync(timings, text);
      expect(chosenBy(folder)).toBe(JSON.stringify([way]));
      expect(readFileSync(timings, 'utf8')).toBe(text);
    }
    const never = lines.map((line) => line.replace(/ (quints|ternary)$/, ' never')).join('\n');
    for (const text of [`another processor\n${never}\n`, '', '\0\0\n\n']) {
      writeFileSync(timings, text);
      expect(chosenBy(folder)).toMatch(/ternary|quints/);
      expect(cases(readFileSync(timings, 'utf8').trim().split('\n'))).toEqual(cases([processor ?? '', ...lines]));
    }
  });

  test('that are named have packs of their own', async () => {
    const model = join(home, 'larger.gguf');
    await synthesize(model, larger, { types: { matrices: 'tq2_0', embedding: 'q8_0' } });
    const folder = join(home, 'named');
    const packs = () => (existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.pack')) : []);
    for (const [kernels, count] of [[`${fastest}/ternary`, 1], [`${fastest}/quints`, 2], [fastest as string, 3]] as const) {
      process.env['TERNION_KERNEL'] = kernels;
      const loaded = await loadModel(model, { devices: ['cpu'], context: 128, packCache: { folder } });
      expect(loaded.placement.packsFromCache).toBe(false);
      await expect.poll(() => packs().length, { timeout: 10_000 }).toBe(count);
      await loaded.dispose();
    }
  });

  test('are tried where what was found out cannot be kept', () => {
    const folder = join(home, 'blocked');
    mkdirSync(join(folder, 'timings-1.txt'), { recursive: true });
    expect(chosenBy(folder)).toMatch(/ternary|quints/);
  });
});
