// What callers may pass: each gets an answer or an error with a code, and the model serves on.
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { isTernionError, loadModel } from '../../dist/index.js';
import type { Model, TernionError } from '../../dist/index.js';

const path = 'models/tern-5m-tq2_0.gguf';
let model: Model;
beforeAll(async () => {
  model = await loadModel(path, { devices: ['cpu'], context: 512, sequences: 2 });
});
afterAll(() => model.dispose());
afterEach(async () => {
  const session = await model.session();
  expect((await session.complete('Once upon a time', { temperature: 0, maxTokens: 3 })).usage.generated).toBe(3);
  await session.dispose();
});

/** The error that a call throws or rejects with, whichever. */
async function refusal(work: () => unknown): Promise<TernionError> {
  try {
    await work();
  } catch (error) {
    if (isTernionError(error)) return error;
    throw error;
  }
  throw new Error('was accepted');
}
const codeOf = async (work: () => unknown) => (await refusal(work)).code;

/** Runs `work`, and says for how long it and, within it, the event loop's longest pause took. */
async function timed<T>(work: () => PromiseLike<T>): Promise<{ value: T; ms: number; lagMs: number }> {
  let lagMs = 0;
  const start = performance.now();
  let last = start;
  const look = () => {
    const now = performance.now();
    lagMs = Math.max(lagMs, now - last - 5);
    last = now;
  };
  const timer = setInterval(look, 5);
  try {
    const value = await work();
    look();
    return { value, ms: performance.now() - start, lagMs };
  } finally {
    clearInterval(timer);
  }
}

describe('loading', () => {
  test.each<[unknown, RegExp]>([
    [{ context: 0 }, /options.context must be .*found 0/],
    [{ context: -1 }, /found -1/],
    [{ context: 512.5 }, /found 512.5/],
    [{ context: NaN }, /found NaN/],
    [{ context: Infinity }, /found Infinity/],
    [{ context: 2 ** 31 }, /found 2147483648/],
    [{ context: '512' }, /found the string "512"/],
    [{ context: 512n }, /found the bigint 512n/],
    [{ context: Symbol('512') }, /found Symbol\(512\)/],
    [{ sequences: 10_000 }, /from 1 to \d+; found 10000/],
    [{ sequences: -0 }, /found 0/],
    [{ threads: -1 }, /options.threads/],
    [{ constructor: 1 }, /has no "constructor"/],
    [JSON.parse('{"__proto__": {"context": 1}}'), /has no "__proto__"/],
    [[], /options must be an object of options; found an array of 0/],
    ['cpu', /found the string "cpu"/],
    [() => {}, /found a function/],
  ])('%o is refused', async (options, message) => {
    const error = await refusal(() => loadModel(path, options as never));
    expect(error.code).toBe('ERR_INVALID_ARG');
    expect(error.message).toMatch(message);
  });

  test('a context beyond memory says how much it takes', async () => {
    const error = await refusal(() => loadModel(path, { devices: ['cpu'], context: 2 ** 31 - 1 }));
    expect(error.code).toBe('ERR_OUT_OF_MEMORY');
    expect(error.message).toMatch(/\d/);
  });

  test('paths that no system takes', async () => {
    expect(await codeOf(() => loadModel(''))).toMatch(/ERR_INVALID_ARG|ERR_MODEL_NOT_FOUND/);
    expect(await codeOf(() => loadModel('x'.repeat(100_000), { devices: ['cpu'] }))).toBe('ERR_MODEL_NOT_FOUND');
    expect(await codeOf(() => loadModel('models', { devices: ['cpu'] }))).toMatch(/ERR_MODEL/);
    expect(await codeOf(() => loadModel('/dev/zero', { devices: ['cpu'] }))).toMatch(/ERR_MODEL/);
  });
});

describe('prompts', () => {
  test.each([1e6, 1e7])('of %i characters: refused with both counts, and the event loop goes on', async (length) => {
    const session = await model.session();
    const prompt = 'fox went over '.repeat(Math.ceil(length / 14)).slice(0, length);
    const { value: error, ms, lagMs } = await timed(() => refusal(() => session.complete(prompt)));
    expect(error.code).toBe('ERR_CONTEXT_FULL');
    expect(error.details).toMatchObject({ available: 512 });
    expect(error.details['requested']).toBeGreaterThan(length / 10);
    expect(ms).toBeLessThan(30_000);
    expect(lagMs).toBeLessThan(1000);
    await session.dispose();
  }, 60_000);

  test('without any space, of one character, of characters outside of the vocabulary', async () => {
    const session = await model.session();
    for (const text of ['a'.repeat(3e5), '😀'.repeat(5e4), ' '.repeat(3e5), '\0'.repeat(1e5), '\ud800'.repeat(5e4), '<|im_end|>'.repeat(3e4)]) {
      const { value: error, ms } = await timed(() => refusal(() => session.complete(text)));
      expect(error.code).toBe('ERR_CONTEXT_FULL');
      expect(ms).toBeLessThan(30_000);
    }
    await session.dispose();
  }, 120_000);

  test('a long one is aborted while it is tokenised', async () => {
    const session = await model.session();
    const abort = new AbortController();
    const running = session.complete('fox went over '.repeat(1e6), { signal: abort.signal });
    setTimeout(() => abort.abort(), 20);
    const { value: error, ms } = await timed(() => refusal(() => running));
    expect(error.code).toBe('ERR_ABORTED');
    expect(ms).toBeLessThan(5000);
    await session.dispose();
  }, 60_000);

  test('empty ones', async () => {
    const session = await model.session();
    expect(await session.complete('', { maxTokens: 1 }).then<number | string, string>(({ usage }) => usage.generated, String)).toSatisfy((said) => said === 1 || /the prompt is empty/.test(String(said)));
    expect(await codeOf(() => session.chat([]))).toBe('ERR_INVALID_ARG');
    expect((await session.chat('', { maxTokens: 1 })).usage.generated).toBeLessThanOrEqual(1);
    await session.dispose();
  });

  test('histories of 5,000 messages, and of one of 2 MB', async () => {
    const session = await model.session();
    const messages = Array.from({ length: 5000 }, (_, i) => ({ role: i % 2 ? ('assistant' as const) : ('user' as const), content: 'x' }));
    const { value: error, lagMs } = await timed(() => refusal(() => session.chat([...messages, { role: 'user', content: 'y' }])));
    expect(error.code).toMatch(/ERR_CONTEXT_FULL|ERR_TEMPLATE/);
    expect(lagMs).toBeLessThan(3000);
    expect(await codeOf(() => session.chat('fox '.repeat(5e5)))).toBe('ERR_CONTEXT_FULL');
    await session.dispose();
  }, 120_000);

  test.each<[string, unknown]>([
    ['a number', 5], ['null', null], ['a symbol', Symbol('x')], ['a buffer', Buffer.from('x')], ['an object', {}], ['a string object', new String('x')],
    ['a part without text', [{ role: 'user', content: [{ type: 'text' }] }]], ['a part of another type', [{ role: 'user', content: [{ type: 'image', text: 'x' }] }]],
    ['a hole', [, { role: 'user', content: 'x' }]], ['tools', [{ role: 'tool', content: 'x' }]], // eslint-disable-line no-sparse-arrays
    ['an unknown key', [{ role: 'user', content: 'x', name: 'me' }]], ['a list in itself', (() => { const a: unknown[] = []; a.push(a); return a; })()],
  ])('%s is no prompt', async (_, prompt) => {
    const session = await model.session();
    expect(await codeOf(() => session.chat(prompt as never))).toBe('ERR_INVALID_ARG');
    expect(() => session.complete(prompt as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG' }));
    await session.dispose();
  });
});

describe('options', () => {
  const thrower = Object.defineProperty({}, 'maxTokens', { enumerable: true, get: () => { throw new Error('a getter that throws'); } });
  test.each<[string, unknown, RegExp]>([
    ['an infinite temperature', { temperature: Infinity }, /temperature/],
    ['an infinite penalty', { presencePenalty: -Infinity }, /presencePenalty/],
    ['a temperature that is no float', { temperature: 1e39 }, /temperature/],
    ['a penalty that is no float', { frequencyPenalty: -1e300 }, /frequencyPenalty/],
    ['a bias that is no float', { logitBias: { 5: 1e300 } }, /logitBias/],
    ['a bias of a token beyond int32', { logitBias: { 4294967299: 1 } }, /logitBias/],
    ['a bias of a token that is no number', { logitBias: { fox: 1 } }, /logitBias/],
    ['a bias of +Infinity', { logitBias: { 5: Infinity } }, /logitBias/],
    ['a Map in disguise', { logitBias: Object.create(Map.prototype) as object }, /cannot be read/],
    ['a getter that throws', thrower, /a getter that throws/],
    ['a proxy that throws', new Proxy({}, { ownKeys: () => { throw new Error('a trap that throws'); } }), /a trap that throws/],
    ['a key of the prototype', JSON.parse('{"__proto__": {"maxTokens": 1}}'), /has no "__proto__"/],
    ['a key like one of Object', { toString: 1 }, /has no "toString"/],
    ['maxTokens as text', { maxTokens: '5' }, /maxTokens must be .*found the string "5"/],
    ['maxTokens as a bigint', { maxTokens: 5n }, /found the bigint 5n/],
    ['maxTokens as a symbol', { maxTokens: Symbol('five') }, /found Symbol\(five\)/],
    ['an unknown key', { max_tokens: 5 }, /has no "max_tokens"; did you mean "maxTokens"/],
    ['an unknown key that is long', { ['x'.repeat(1e6)]: 5 }, /has no "x/],
    ['a thousand unknown keys', Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`k${i}`, 1])), /has no "k0"/],
    ['a stop string among others that is empty', { stop: ['a', ''] }, /stop/],
    ['an empty grammar', { grammar: '' }, /grammar/],
    ['a logprobs of 101', { logprobs: 101 }, /logprobs/],
    ['a NaN in a bag', { dry: { multiplier: NaN } }, /dry/],
    ['an object without a prototype in a number’s place', { topK: Object.create(null) as object }, /topK/],
    ['a date', new Date(), /options/],
    ['an array', [1], /options must be/],
  ])('%s is refused', async (_, options, message) => {
    const session = await model.session();
    const error = await refusal(() => session.complete('x', options as never));
    expect(error.code).toBe('ERR_INVALID_ARG');
    expect(error.message).toMatch(message);
    expect(error.message.length).toBeLessThan(2000);
    await session.dispose();
  });

  test('a token outside of the vocabulary', async () => {
    const session = await model.session();
    const error = await refusal(() => session.complete('x', { logitBias: { 3072: 1 } }));
    expect([error.code, error.message]).toEqual(['ERR_INVALID_ARG', expect.stringMatching(/token 3072, but the vocabulary has tokens 0 to 3071/)]);
    await session.dispose();
  });

  test('nothing is left that a request could be polluted with', async () => {
    const session = await model.session();
    await refusal(() => session.complete('x', JSON.parse('{"__proto__": {"polluted": 1}, "dry": {"__proto__": {"polluted": 1}, "multiplier": 1}}') as never));
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
    await session.dispose();
  });

  test('extremes that are allowed', async () => {
    const session = await model.session();
    for (const options of [
      { temperature: -0 }, { temperature: 3e38 }, { temperature: 1e-45 }, { topP: 0 }, { minP: 1 }, { typicalP: 0 }, { topK: 2 ** 31 - 1 }, { topNSigma: 1e30 },
      { repeatPenalty: 1e-40 }, { repeatPenalty: 3e38 }, { frequencyPenalty: 3e38, presencePenalty: -3e38 }, { penaltyLastN: 2 ** 31 - 1, repeatPenalty: 2 },
      { dry: { multiplier: 3e38, base: 3e38, allowedLength: 0, penaltyLastN: 2 ** 31 - 1, sequenceBreakers: [] } }, { dry: { multiplier: 1, penaltyLastN: -1 } },
      { dry: { multiplier: 1, sequenceBreakers: ['x'.repeat(1e5), '\0', '\ud800', '😀'] } },
      { xtc: { probability: 1, threshold: 0 } }, { mirostat: { version: 1 as const, tau: 1e-30, eta: 1e30 } }, { mirostat: { version: 2 as const, tau: 3e38, eta: 3e38 } },
      { logitBias: new Map([[5, 3e38], [6, -3e38]]) }, { seed: 0 }, { samplers: [] }, { maxTokens: 2 ** 31 - 1, stop: 'e' }, { logprobs: 100 },
    ]) {
      const found = await session.complete('Once upon a time', { maxTokens: 4, ...options }).then<string, string>(({ reason }) => reason, String);
      expect(['length', 'stop'], `${JSON.stringify(options).slice(0, 100)}: ${found}`).toContain(found);
    }
    await session.dispose();
  });

  test('every token forbidden is an error that says so', async () => {
    const session = await model.session();
    const logitBias = new Map(Array.from({ length: 3072 }, (_, token) => [token, -Infinity]));
    const error = await refusal(() => session.complete('x', { logitBias, maxTokens: 3 }));
    expect(error.message).toMatch(/logitBias forbids every token/);
    await session.dispose();
  });

  test('a thousand stop strings, and one of a million characters', async () => {
    const session = await model.session();
    const options = { temperature: 0, maxTokens: 30 };
    const whole = await session.complete('Once upon a time', options);
    const stop = Array.from({ length: 1000 }, (_, i) => `never said ${i}`);
    expect((await session.complete('Once upon a time', { ...options, stop })).text).toBe(whole.text);
    expect((await session.complete('Once upon a time', { ...options, stop: 'x'.repeat(1e6) })).text).toBe(whole.text);
    const word = whole.text.slice(10, 14);
    expect((await session.complete('Once upon a time', { ...options, stop: [...stop, word] })).text).toBe(whole.text.slice(0, whole.text.indexOf(word)));
    // Held back as the beginning of a stop string that never comes: nothing of it is lost.
    expect((await session.complete('Once upon a time', { ...options, stop: `${whole.text} and more` })).text).toBe(whole.text);
    await session.dispose();
  });
});

describe('texts and tokens', () => {
  test('a million tokens, and ids that are none', async () => {
    const { value, lagMs } = await timed(() => model.detokenize(new Int32Array(1e6).fill(300)));
    expect(value.length).toBeGreaterThan(1e5);
    expect(lagMs).toBeLessThan(1000);
    for (const ids of [[-1], [3072], [2 ** 31 - 1], [1.5], [NaN], ['1'], [2 ** 32]]) expect(await codeOf(() => model.detokenize(ids as number[])), String(ids)).toBe('ERR_INVALID_ARG');
    expect(await codeOf(() => model.detokenize(Int32Array.of(-5)))).toBe('ERR_INVALID_ARG');
    expect(await model.detokenize([])).toBe('');
    expect(await codeOf(() => model.logits([3072, -1]))).toBe('ERR_INVALID_ARG');
  }, 60_000);

  test('10,000 embeddings, aborted; an empty text; none', async () => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 300);
    const { value: error, ms } = await timed(() => refusal(() => model.embed(Array.from({ length: 10_000 }, (_, i) => `the fox ${i}`), { signal: abort.signal })));
    expect(error.code).toBe('ERR_ABORTED');
    expect(ms).toBeLessThan(5000);
    const soon = new AbortController();
    setTimeout(() => soon.abort(), 100);
    const long = new Array<string>(100_000).fill('the fox went over the river. '.repeat(14)); // ten seconds of tokenising and more
    const early = await timed(() => refusal(() => model.embed(long, { signal: soon.signal })));
    expect(early.value.code).toBe('ERR_ABORTED');
    expect(early.ms).toBeLessThan(2000);
    expect(await model.embed([])).toEqual([]);
    expect(await codeOf(() => model.embed(['fox '.repeat(10_000)]))).toMatch(/ERR_CONTEXT_FULL|ERR_INVALID_ARG/);
    expect(await codeOf(() => model.embed('text' as never))).toBe('ERR_INVALID_ARG');
  }, 60_000);
});

describe('grammars', () => {
  const rules = (n: number, body: (i: number) => string) => Array.from({ length: n }, (_, i) => `r${i} ::= ${body(i)}`).join('\n');
  test.each<[string, string, RegExp]>([
    ['left recursion', 'root ::= root "a" | "a"', /left recursion/],
    ['left recursion behind what is empty', 'root ::= b root "x" | "y"\nb ::= d\nd ::= ""', /too ambiguous/],
    ['10,000 parentheses', `root ::= ${'('.repeat(10_000)}"a"${')'.repeat(10_000)}`, /nested deeper than 200/],
    ['200,000 parentheses that never close', `root ::= ${'('.repeat(200_000)}`, /nested deeper than 200/],
    ['a chain of 40,000 rules', `root ::= r0\n${rules(40_000, (i) => `r${i + 1}`)}\nr40000 ::= "a"`, /more than 20000 rules/],
    ['a chain of 10,000 rules', `root ::= r0\n${rules(10_000, (i) => `r${i + 1}`)}\nr10000 ::= "a"`, /begin with each other/],
    ['a repetition upside down', 'root ::= "a"{5,3}', /at least 5 and at most 3/],
    ['a million repetitions', 'root ::= "a"{1000000}', /repetitions exceeds/],
    ['repetitions of repetitions', 'root ::= (("a"{0,1000}){0,1000}){0,1000}', /exceeds/],
    ['10,000 repetitions beside each other', `root ::= ${'[a]{0,2000} '.repeat(10_000)}`, /more than 20000/],
    ['a long text repeated', `root ::= "${'x'.repeat(500_000)}"{2000}`, /more than 1000000 elements/],
    ['an undefined rule', 'root ::= foo', /'foo'/],
    ['no root', 'rot ::= "a"', /root/],
    ['a token beyond all', 'root ::= <[99999999999999999999]>', /not valid GBNF/],
    ['a text of 50 MB', `root ::= "a"\n${'#'.repeat(50e6)}`, /50000013 bytes; expected at most 1048576/],
    ['a zero byte', 'root ::= "a"\0 garbage', /none of them 0/],
    ['an unclosed text', 'root ::= "a', /unexpected end of input/],
    ['binary', 'root ::= [\ud800-\udfff', /not valid GBNF/],
    ['3000 options beside each other', `root ::= ${'[a-z]?'.repeat(3000)}`, /too ambiguous/],
  ])('%s', async (_, grammar, message) => {
    const session = await model.session();
    const { value: error, ms } = await timed(() => refusal(() => session.complete('Once', { grammar, maxTokens: 20 })));
    expect(error.code).toBe('ERR_GRAMMAR_INVALID');
    expect(error.message).toMatch(message);
    expect(error.message.length).toBeLessThan(1000);
    expect(ms).toBeLessThan(8000);
    await session.dispose();
  }, 20_000);

  test.each<[string, string, RegExp]>([
    ['stars of stars', 'root ::= (("a"*)*)*', /^a*$/],
    ['0 to a million', 'root ::= "a"{0,1000000}', /^a*$/],
    ['the empty sentence alone', 'root ::= ""', /^$/],
    ['shared beginnings, 60 rules deep', `root ::= r0\n${rules(60, (i) => `r${i + 1} | r${i + 1}`)}\nr60 ::= "a"`, /^a$/],
    ['150 parentheses', `root ::= ${'('.repeat(150)}"a"${')'.repeat(150)}`, /^a$/],
  ])('%s can be followed', async (_, grammar, text) => {
    const session = await model.session();
    expect((await session.complete('Once', { grammar, maxTokens: 20 })).text).toMatch(text);
    await session.dispose();
  });

  test('one that explodes while it samples loses nothing, and others go on', async () => {
    const [one, other] = [await model.session(), await model.session()];
    const options = { temperature: 0, ignoreEos: true, maxTokens: 200 };
    const alone = await other.complete('The old bear', options);
    const beside = other.complete('The old bear', options);
    const error = await refusal(() => one.complete('Once upon a time', { temperature: 0, maxTokens: 100, grammar: `root ::= [^.]+ "." ${'[^.]?'.repeat(4000)} "!"` }));
    expect([error.code, error.message]).toEqual(['ERR_GRAMMAR_INVALID', expect.stringMatching(/too ambiguous/)]);
    expect(String(error.details['text']).length).toBeGreaterThan(10);
    expect((await beside).text).toBe(alone.text);
    expect((await one.complete('Once upon a time', { temperature: 0, maxTokens: 5 })).usage.generated).toBe(5);
    await Promise.all([one.dispose(), other.dispose()]);
  }, 60_000);
});
