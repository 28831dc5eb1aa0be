import { closeSync, copyFileSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execFileSync, spawnSync } from 'node:child_process';
import { afterAll, describe as group, expect, test } from 'vitest';
import { describe, inspect, lint, synthesize, verify } from '../../dist/gguf/index.js';
import type { PresetName, TensorType } from '../../dist/gguf/index.js';
import { clashingType } from '../../dist/gguf/clash.js';
import { writeGguf } from './write-gguf.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-describe-'));
afterAll(() => rmSync(folder, { recursive: true }));
const embedded = 'models/tern-5m-tq2_0.gguf';

group('describe', () => {
  // Bytes per token at q4_0 from the public models' layers, heads and sizes; windowed and recurrent layers not counted.
  test.each<[PresetName, number]>([
    ['Qwen3-14B', 46_080],
    ['Qwen3-8B', 41_472],
    ['Phi-4-14B', 57_600],
    ['Mistral-Nemo-12B', 46_080],
    ['Mistral-Small-3.2-24B', 46_080],
    ['QwQ-32B', 73_728],
    ['Phi-4-mini', 36_864],
    ['Qwen3-30B-A3B', 27_648],
    ['Qwen3.5-27B', 18_432],
    ['Qwen3.5-35B-A3B', 5_760],
    ['gpt-oss-20B', 6_912],
    ['Gemma-3-4B', 5_760],
    ['Qwen3.5-9B', 9_216],
  ])('%s: KV bytes per token', async (preset, bytes) => {
    const path = join(folder, 'header');
    await synthesize(path, preset, { headerOnly: true });
    expect((await describe(path)).kvBytesPerToken.q4_0).toBe(bytes);
  });

  test('what a token reads: M in ternary, and a mixture’s working experts only', async () => {
    const path = join(folder, 'm');
    await synthesize(path, 'M', { headerOnly: true });
    const m = await describe(path);
    expect(m.bytesPerToken / 1e6).toBeCloseTo(320.9, 0);
    expect(m.bytesByType['tq2_0']?.tensors).toBe(16 * 7);
    expect(m.attentionLayers).toEqual({ full: 16, windowed: 0, recurrent: 0 });
    await synthesize(path, 'Qwen3-30B-A3B', { headerOnly: true });
    const moe = await describe(path);
    expect(moe.experts).toEqual({ count: 128, used: 8 });
    expect(moe.parameters / 1e9).toBeCloseTo(30.5, 1);
    const { experts = 0, embedding = 0, ...always } = moe.bytesByRole;
    const rest = Object.values(always).reduce((a, b) => a + b, 0);
    expect(moe.bytesPerToken).toBe(rest + experts / 16 + embedding / 151_936);
  });

  test('the embedded model', async () => {
    expect(await describe(embedded)).toMatchObject({
      architecture: 'llama', layers: 5, trainedContext: 2048, hasAttentionBias: false, hasSubNorms: false, split: undefined,
      tokenizer: { model: 'gpt2', pre: 'qwen2', tokens: 3072, hasChatTemplate: true },
    });
  });
});

group('describe, of what a header claims', () => {
  const norm = (name: string) => ({ name, shape: [64], type: 0, bytes: 256 });
  const path = join(folder, 'claims.gguf');
  const attention = (layers: number) => Array.from({ length: layers }, (_, i) => norm(`blk.${i}.attn_k.weight`));
  const base = { 'llama.embedding_length': 256, 'llama.attention.head_count': 4, 'llama.attention.head_count_kv': 2 };

  test('four billion layers cost nothing', async () => {
    writeGguf(path, { ...base, 'general.architecture': 'llama', 'llama.block_count': 4_000_000_000 }, attention(2));
    const facts = await describe(path);
    expect(facts.attentionLayers).toEqual({ full: 2, windowed: 0, recurrent: 3_999_999_998 });
    expect(facts.kvBytesPerToken.f16).toBe(2 * 2 * 128 * 2);
    await lint(path);
  });

  test('windows by the file’s own pattern, a list or a number, before the architecture’s', async () => {
    const windowed = { ...Object.fromEntries(Object.entries(base).map(([key, value]) => [key.replace('llama', 'gemma3'), value])), 'general.architecture': 'gemma3', 'gemma3.block_count': 12, 'gemma3.attention.sliding_window': 512 };
    writeGguf(path, windowed, attention(12));
    expect((await describe(path)).attentionLayers).toEqual({ full: 2, windowed: 10, recurrent: 0 });
    writeGguf(path, { ...windowed, 'gemma3.attention.sliding_window_pattern': 3 }, attention(12));
    expect((await describe(path)).attentionLayers).toEqual({ full: 4, windowed: 8, recurrent: 0 });
    writeGguf(path, { ...windowed, 'gemma3.attention.sliding_window_pattern': Uint32Array.of(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0) }, attention(12));
    expect((await describe(path)).attentionLayers).toEqual({ full: 1, windowed: 11, recurrent: 0 });
  });

  test('head counts that differ by layer, also in the seventieth', async () => {
    const heads = Uint32Array.from({ length: 80 }, (_, i) => (i === 70 ? 4 : 1));
    writeGguf(path, { ...base, 'general.architecture': 'llama', 'llama.block_count': 80, 'llama.attention.head_count_kv': heads }, attention(80));
    expect((await describe(path)).kvBytesPerToken.f16).toBe((79 + 4) * 128 * 2);
  });

  test('latent attention caches one row, and no values', async () => {
    const mla = {
      'general.architecture': 'deepseek2', 'deepseek2.block_count': 1, 'deepseek2.attention.head_count': 16, 'deepseek2.attention.head_count_kv': 1,
      'deepseek2.attention.key_length': 576, 'deepseek2.attention.value_length': 512, 'deepseek2.attention.key_length_mla': 192,
    };
    writeGguf(path, mla, [norm('blk.0.attn_kv_a_mqa.weight')]);
    expect((await describe(path)).kvBytesPerToken.f16).toBe(576 * 2);
  });
});

group('lint', () => {
  test('nothing is wrong with the embedded model', async () => {
    expect(await lint(embedded)).toEqual([]);
    expect(execFileSync(process.execPath, ['dist/cli/main.js', 'lint', embedded], { encoding: 'utf8' })).toContain('nothing is known to be wrong');
  });

  test('a truncated file, as an error with exit code 1', async () => {
    const path = join(folder, 'cut.gguf');
    copyFileSync(embedded, path);
    truncateSync(path, 1_500_000);
    const findings = await lint(path);
    expect(findings.map(({ severity, code }) => [severity, code])).toEqual([['error', 'truncated']]);
    const { status, stdout } = spawnSync(process.execPath, ['dist/cli/main.js', 'lint', path, '--json'], { encoding: 'utf8' });
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toEqual(findings);
  });

  test('a model without a template or tokenizer', async () => {
    const path = join(folder, 'bare.gguf');
    await synthesize(path, 'S', { layers: 1, tokenizer: 'vendor/llama/models/ggml-vocab-llama-spm.gguf' });
    expect((await lint(path)).map(({ code }) => code)).toEqual(['no-chat-template']);
    expect((await lint('vendor/llama/models/ggml-vocab-qwen2.gguf')).every(({ severity }) => severity === 'warning')).toBe(true);
  });

  test.each<[string, number, readonly number[], number, string]>([
    ['Q2_0 with blocks of 128', 42, [256, 64], 128 * 34, 'Q2_0 with blocks of 128'],
    ['Q2_0C', 40, [512, 64], 64 * 130, 'Q2_0C'],
    ['I2_S', 36, [256, 64], 64 * 64 + 32, 'I2_S'],
  ])('%s is named, where llama.cpp sees a damaged file', async (_, type, shape, bytes, format) => {
    const path = join(folder, 'clash.gguf');
    writeGguf(path, { 'general.architecture': 'llama', list: ['a', 'b'] }, [
      { name: 'blk.0.ffn_up.weight', shape, type, bytes },
      { name: 'output_norm.weight', shape: [256], type: 0, bytes: 1024 },
    ]);
    await expect(inspect(path)).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
    const [finding, ...others] = await lint(path);
    expect(finding).toMatchObject({ severity: 'error', code: 'clashing-type' });
    expect(finding?.message).toContain(`blk.0.ffn_up.weight has the type number ${type}, but the size of ${format}`);
    expect(others).toEqual([]);
  });

  test.each([40, 42, 43])('STQ1_0 under the number %i is read as what it is', async (type) => {
    const path = join(folder, 'sherry.gguf');
    writeGguf(path, { 'general.architecture': 'llama', 'llama.block_count': 1 }, [
      { name: 'blk.0.ffn_up.weight', shape: [256, 64], type, bytes: 64 * 42 },
      { name: 'output_norm.weight', shape: [256], type: 0, bytes: 1024 },
    ]);
    expect((await inspect(path)).tensors[0]).toMatchObject({ type: 'stq1_0', bytes: 64 * 42 });
    expect((await lint(path)).map(({ code }) => code)).not.toContain('clashing-type');
  });

  test('Q2_0 under its own number is no clash, and damage is not called one', async () => {
    const path = join(folder, 'fine.gguf');
    writeGguf(path, { 'general.architecture': 'llama' }, [{ name: 'a', shape: [256, 64], type: 42, bytes: 256 * 18 }]);
    expect((await lint(path)).map(({ code }) => code)).not.toContain('clashing-type');
    expect(clashingType([{ name: 'a', shape: [256, 64], typeId: 42, extent: 256 * 18, alignment: 32 }])).toBeUndefined();
    for (const type of [36, 43]) {
      writeGguf(path, { 'general.architecture': 'llama' }, [{ name: 'a', shape: [256, 64], type, bytes: 1000 }]);
      await expect(lint(path)).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
    }
  });

  test('a file whose header is cut anywhere is an error, never a crash', async () => {
    const whole = join(folder, 'clash-whole.gguf');
    writeGguf(whole, { 'general.architecture': 'llama', list: ['a', 'b'] }, [{ name: 'a', shape: [256, 64], type: 43, bytes: 64 * 42 }]);
    const bytes = readFileSync(whole);
    const path = join(folder, 'clash-cut.gguf');
    for (let length = 0; length < 200; length++) {
      writeFileSync(path, bytes.subarray(0, length));
      await expect(lint(path), `${length} bytes`).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
    }
  });

  test('no file, no GGUF', async () => {
    await expect(lint(join(folder, 'none'))).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_FOUND' });
    await expect(lint('package.json')).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
  });
});

group('a split file', () => {
  const part = (n: number, of = 3) => join(folder, `split-0000${n}-of-0000${of}.gguf`);
  const norm = (name: string) => ({ name, shape: [256], type: 0, bytes: 1024 });
  const write = () => {
    const facts = { 'general.architecture': 'llama', 'general.name': 'split', 'llama.block_count': 2, 'llama.context_length': 512 };
    writeGguf(part(1), { ...facts, 'split.no': 0, 'split.count': 3 }, [norm('token_embd.weight')]);
    writeGguf(part(2), { 'split.no': 1, 'split.count': 3 }, [norm('blk.0.attn_norm.weight'), norm('blk.0.ffn_norm.weight')]);
    writeGguf(part(3), { 'split.no': 2, 'split.count': 3 }, [norm('output_norm.weight')]);
  };

  test.each([1, 2, 3])('is described as a whole by its part %i', async (n) => {
    write();
    const facts = await describe(part(n));
    expect(facts).toMatchObject({ architecture: 'llama', name: 'split', layers: 2, parameters: 1024, split: { index: n - 1, count: 3, missing: 0 } });
    expect(facts.bytesByType).toEqual({ f32: { tensors: 4, bytes: 4096 } });
    const { stdout } = spawnSync(process.execPath, ['dist/cli/main.js', 'inspect', part(n)], { encoding: 'utf8' });
    expect(stdout).toContain('4 tensors');
    expect(stdout).toContain('3, of which all are here');
  });

  test('says which parts are missing or cut', async () => {
    write();
    rmSync(part(2));
    expect((await describe(part(3))).split).toEqual({ index: 2, count: 3, missing: 1 });
    expect((await lint(part(1))).find(({ code }) => code === 'split-part-missing')?.message).toContain(part(2));
    write();
    truncateSync(part(3), statSync(part(3)).size - 64);
    expect((await lint(part(1))).find(({ code }) => code === 'truncated')?.message).toContain(part(3));
  });

  test('of which only a later part is there lacks that, not a tokenizer', async () => {
    write();
    rmSync(part(1));
    expect((await lint(part(2))).map(({ code }) => code)).toEqual(['split-part-missing']);
  });

  test('under another name is one part of several, and not counted several times', async () => {
    write();
    const renamed = join(folder, 'renamed.gguf');
    copyFileSync(part(1), renamed);
    expect(await describe(renamed)).toMatchObject({ parameters: 256, split: { index: 0, count: 3, missing: 2 } });
    expect((await lint(renamed)).find(({ code }) => code === 'split-part-missing')?.message).toContain('its name does not end in');
  });

  test('of a part that is no GGUF is an error', async () => {
    write();
    writeFileSync(part(2), 'not a model');
    await expect(describe(part(1))).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
  });
});

group('verify', () => {
  const damaged = async (tensor: string, at: number, bytes: readonly number[]) => {
    const path = join(folder, 'damaged');
    await synthesize(path, 'S', { layers: 1 });
    const { dataOffset, tensors } = await inspect(path);
    const file = openSync(path, 'r+');
    writeSync(file, Uint8Array.from(bytes), 0, bytes.length, dataOffset + (tensors.find(({ name }) => name === tensor)?.offset ?? 0) + at);
    closeSync(file);
    return path;
  };

  test('the embedded model is sound, and has the card’s sha256', async () => {
    const { sound, tensors, sha256 } = await verify(embedded);
    expect(sound).toBe(true);
    expect(tensors.every(({ checked, blocks }) => checked && blocks > 0)).toBe(true);
    expect(sha256).toBe(createHash('sha256').update(readFileSync(embedded)).digest('hex'));
    expect(readFileSync('models/README.md', 'utf8')).toContain(sha256);
  });

  test.each<[string, string, number, readonly number[], object]>([
    ['a NaN in a norm', 'output_norm.weight', 8, [0, 0, 0xc0, 0x7f], { notFinite: 1, zeroScales: 0 }],
    ['an infinite scale of TQ2_0', 'blk.0.ffn_up.weight', 66 * 5 + 64, [0, 0x7c], { notFinite: 1, zeroScales: 0 }],
    ['a zero scale of Q8_0', 'output.weight', 34 * 7, [0, 0], { notFinite: 0, zeroScales: 1 }],
  ])('%s is found', async (_, tensor, at, bytes, expected) => {
    const result = await verify(await damaged(tensor, at, bytes));
    expect(result.tensors.find(({ name }) => name === tensor)).toMatchObject(expected);
    expect(result.sound).toBe((expected as { notFinite: number }).notFinite === 0);
  });

  test.each<[TensorType, number, readonly number[]]>([
    ['mxfp4', 0, [255]],
    ['nvfp4', 3, [0x7f]],
    ['iq1_m', 48, [0, 0, 0, 0, 0, 0xc0, 0, 0x70]],
  ])('scales of %s that are no half-precision numbers', async (type, at, bytes) => {
    const path = join(folder, type);
    await synthesize(path, 'S', { layers: 1, types: { matrices: type } });
    const matrices = async () => (await verify(path)).tensors.filter((tensor) => tensor.type === type);
    for (const tensor of await matrices()) expect(tensor).toMatchObject({ checked: true, notFinite: 0, zeroScales: 0 });
    const { dataOffset, tensors } = await inspect(path);
    const tensor = tensors.find(({ name }) => name === 'blk.0.ffn_up.weight');
    const file = openSync(path, 'r+');
    writeSync(file, Uint8Array.from(bytes), 0, bytes.length, dataOffset + (tensor?.offset ?? 0) + at);
    closeSync(file);
    expect((await matrices()).reduce((sum, { notFinite }) => sum + notFinite, 0)).toBe(1);
  });

  test('a truncated file, an abort', async () => {
    const path = await damaged('output.weight', 0, [1]);
    truncateSync(path, 1_000_000);
    await expect(verify(path)).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
    await expect(verify(embedded, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect(spawnSync(process.execPath, ['dist/cli/main.js', 'inspect', embedded, '--verify'], { encoding: 'utf8' }).stdout).toContain('every value is finite');
  });
});
