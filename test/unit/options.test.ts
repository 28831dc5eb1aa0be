import { describe, expect, test } from 'vitest';
import { defaultDevices } from '../../dist/devices.js';
import { readLoadOptions } from '../../dist/load-options.js';
import { fromNative, isTernionError, TernionError } from '../../dist/errors.js';
import { read } from '../../dist/options.js';
import { mergeSampling, samplingDefaults, toNativeSampling } from '../../dist/sampling.js';
import { nearest } from '../../dist/validate.js';

const refused = (work: () => unknown) => {
  try {
    work();
  } catch (error) {
    if (isTernionError(error, 'ERR_INVALID_ARG')) return { argument: error.details['argument'], message: error.message };
    throw error;
  }
  return { argument: undefined, message: 'was accepted' };
};

describe('options', () => {
  test.each<[string, () => unknown, string, RegExp]>([
    ['a path that is no string', () => read.text('loadModel', 'path', 5), 'path', /loadModel: path must be a string; found 5/],
    ['a NaN', () => read.completeOptions({ temperature: NaN }), 'options.temperature', /at least 0; found NaN/],
    ['a negative', () => read.completeOptions({ maxTokens: -1 }), 'options.maxTokens', /integer of at least 0; found -1/],
    ['a fraction of a token', () => read.completeOptions({ maxTokens: 1.5 }), 'options.maxTokens', /found 1.5/],
    ['a probability over 1', () => read.completeOptions({ topP: 1.1 }), 'options.topP', /from 0 to 1; found 1.1/],
    ['a seed too large', () => read.completeOptions({ seed: 2 ** 32 }), 'options.seed', /0 to 4294967294/],
    ['an empty stop string', () => read.completeOptions({ stop: '' }), 'options.stop', /non-empty/],
    ['an unknown KV type', () => readLoadOptions({ kv: 'q2_k' }), 'options.kv', /'iq4_nl', or \{ k, v \}/],
    ['no sequences', () => readLoadOptions({ sequences: 0 }), 'options.sequences', /from 1 to 254; found 0/],
    ['no devices', () => readLoadOptions({ devices: [] }), 'options.devices', /at least one device id/],
    ['a ubatch of nothing', () => readLoadOptions({ ubatch: 0 }), 'options.ubatch', /from 1 to 16384; found 0/],
    ['flash attention of a word', () => readLoadOptions({ flashAttention: 'on' }), 'options.flashAttention', /'auto', true or false/],
    ['experts nowhere', () => readLoadOptions({ experts: 'disk' }), 'options.experts', /'gpu', 'cpu', \{ cpuLayers \} or \{ overrides \}/],
    ['no pattern', () => readLoadOptions({ experts: { overrides: {} } }), 'options.experts.overrides', /at least one pattern/],
    ['a device twice', () => readLoadOptions({ devices: ['cpu', 'cpu'] }), 'options.devices', /without repeated/],
    ['an unknown role', () => read.prompt([{ role: 'oracle', content: 'x' }]), 'prompt[0].role', /'system' \| 'user' \| 'assistant'/],
    ['no messages', () => read.prompt([]), 'prompt', /at least one message/],
    ['a bias below token 0', () => read.completeOptions({ logitBias: { '-1': 1 } }), 'options.logitBias', /integers of at least 0/],
    ['a bias of no token', () => read.completeOptions({ logitBias: { '': 1 } }), 'options.logitBias', /integers of at least 0/],
    ['a bias of a token in hexadecimal', () => read.completeOptions({ logitBias: { '0x10': 1 } }), 'options.logitBias', /integers of at least 0/],
    ['a bias of NaN', () => read.completeOptions({ logitBias: new Map([[1, NaN]]) }), 'options.logitBias', /finite/],
    ['a sampler twice', () => read.completeOptions({ samplers: ['topK', 'topK'] }), 'options.samplers', /without repeated/],
    ['a signal that is none', () => read.completeOptions({ signal: {} }), 'options.signal', /an AbortSignal/],
  ])('%s is refused by name', (_, work, argument, message) => {
    expect(refused(work)).toEqual({ argument, message: expect.stringMatching(message) as string });
  });

  test('unknown keys name the nearest', () => {
    expect(refused(() => read.completeOptions({ temprature: 1 })).message).toMatch(/has no "temprature"; did you mean "temperature"\?/);
    expect(refused(() => read.chatOptions({ dry: { multiplyer: 1 } })).message).toMatch(/options.dry/);
    expect(nearest('maxtokens', ['maxTokens', 'stop'])).toBe('maxTokens');
    expect(nearest('zzz', ['maxTokens', 'stop'])).toBeUndefined();
  });

  test('what was checked is what is used, whatever happens to the original', () => {
    const logitBias = new Map([[1, 1]]);
    let reads = 0;
    const fickle = Object.defineProperty({}, '2', { enumerable: true, get: () => (reads++ === 0 ? 1 : NaN) });
    const [copy, other] = [read.completeOptions({ logitBias }), read.completeOptions({ logitBias: fickle })];
    logitBias.set(1, NaN);
    expect([...toNativeSampling('call', copy).biasValues, ...toNativeSampling('call', other).biasValues]).toEqual([1, 1]);
  });

  test('undefined counts as left out', () => {
    expect(refused(() => readLoadOptions({ context: undefined, signal: undefined })).argument).toBeUndefined();
    expect(mergeSampling({ topK: 5, seed: 1 }, { topK: undefined, seed: 2 })).toEqual({ topK: 5, seed: 2 });
  });

  test('options that would undo each other are refused', () => {
    for (const [sampling, argument] of [
      [{ mirostat: { version: 2 }, topK: 5 }, 'options.topK'],
      [{ samplers: ['temperature'], topK: 5 }, 'options.topK'],
      [{ mirostat: { version: 2 }, samplers: ['topK'] }, 'options.samplers'],
    ] as const) {
      expect(refused(() => toNativeSampling('call', sampling)).argument).toBe(argument);
    }
  });

  test('what is left out has the documented default; a random seed is in range', () => {
    const native = toNativeSampling('call', {});
    expect(native).toMatchObject({ temperature: 0.8, topK: 40, topP: 0.95, minP: 0.05, mirostat: 0, grammar: '' });
    expect(native.order).toEqual(samplingDefaults.samplers);
    expect(Number.isInteger(native.seed) && native.seed >= 0 && native.seed <= 2 ** 32 - 2).toBe(true);
    expect([...toNativeSampling('call', { logitBias: { 7: -Infinity } }).biasTokens]).toEqual([7]);
  });
});

describe('the default device', () => {
  const cpu = { id: 'cpu', kind: 'cpu', software: false } as const;
  const igpu = { id: 'vulkan0', kind: 'igpu', software: false } as const;
  const gpu = { id: 'vulkan1', kind: 'gpu', software: false } as const;

  test('is the first discrete GPU, else the integrated one, else the CPU; the environment replaces it', () => {
    expect(defaultDevices([cpu, igpu, gpu], undefined)).toEqual(['vulkan1']);
    expect(defaultDevices([cpu, igpu], undefined)).toEqual(['vulkan0']);
    expect(defaultDevices([cpu], undefined)).toEqual(['cpu']);
    expect(defaultDevices([cpu, gpu], ' cpu , ')).toEqual(['cpu']);
    expect(defaultDevices([cpu, gpu], '')).toEqual(['vulkan1']);
    const played = { id: 'vulkan2', kind: 'gpu', software: true } as const;
    expect(defaultDevices([cpu, played], undefined)).toEqual(['cpu']);
    expect(defaultDevices([cpu, played, igpu], undefined)).toEqual(['vulkan0']);
  });
});

describe('errors', () => {
  test('the addon’s failures become TernionErrors, unknown ones ERR_INTERNAL with their cause', () => {
    const known = fromNative({ code: 'ERR_DEVICE_LOST', message: 'gone', details: { device: 'x' } });
    expect(known).toMatchObject({ code: 'ERR_DEVICE_LOST', message: 'gone', details: { device: 'x' } });
    const cause = new Error('odd');
    expect(fromNative(cause)).toMatchObject({ code: 'ERR_INTERNAL', cause });
    expect(fromNative(known)).toBe(known);
  });

  test('are recognised by code, also those of another copy of the package', () => {
    const error = new TernionError('ERR_BUSY', 'busy');
    expect(isTernionError(error) && isTernionError(error, 'ERR_BUSY') && !isTernionError(error, 'ERR_ABORTED')).toBe(true);
    const foreign = Object.assign(new Error('busy'), { name: 'TernionError', code: 'ERR_BUSY' });
    expect(isTernionError(foreign, 'ERR_BUSY')).toBe(true);
    expect(isTernionError(Object.assign(new Error('x'), { code: 'ERR_BUSY' }))).toBe(false);
  });
});
