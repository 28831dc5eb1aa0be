/**
 * What each option bag accepts. Types and their documentation are with the nouns they belong to; a key that exists in
 * only one of the two places does not compile.
 */
import { z } from 'zod/mini';
import type { ChatOptions, GenerateOptions } from './generation.js';
import type { ImportOptions } from './gguf/import.js';
import type { Message, TextPart } from './message.js';
import type { DetokenizeOptions, EmbedOptions, LogitsOptions, RenderOptions, TokenizeOptions } from './model-options.js';
import { tensorTypes } from './gguf/shape.js';
import type { QuantizeOptions } from './gguf/quantize.js';
import type { OnFull } from './on-full.js';
import type { PrimeOptions } from './prime.js';
import { Snapshot } from './snapshot.js';
import type { SnapshotOptions } from './snapshot.js';
import { largestSeed, samplingDefaults } from './sampling.js';
import type { Dry, Mirostat, Sampling, Xtc } from './sampling.js';
import type { PackFolderOptions, VerifyPackOptions } from './packs.js';
import type { SessionOptions } from './session-options.js';
import { check, refuse, unknownKeys } from './validate.js';

export type Shape<T> = { readonly [K in keyof T]-?: z.ZodMiniType<T[K]> };

/** An object with exactly the keys of T; `expected` is how an error message calls it. */
export function bag<T>(shape: Shape<T>, expected = 'an object of options'): z.ZodMiniType<T> {
  const error = (issue: { code?: string; keys?: readonly string[] }) =>
    issue.code === 'unrecognized_keys' ? unknownKeys(issue.keys ?? [], Object.keys(shape)) : expected;
  return z.pipe(z.custom<object>(isBag, { error: expected }), z.strictObject(shape, { error: error as never })) as unknown as z.ZodMiniType<T>;
}

/** Maps, dates, promises and the like have no keys of their own, and would pass as empty bags. */
const isBag = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value) && !/^\[object (?:Map|Set|WeakMap|WeakSet|Date|Promise|RegExp|Error|.*Array|.*ArrayBuffer|DataView)\]$/.test(Object.prototype.toString.call(value));

export const optional = <T>(type: z.ZodMiniType<T>) => z.optional(type);

export function numberFrom(minimum: number, maximum: number, expected: string) {
  return z.number({ error: expected }).check(z.gte(minimum, { error: expected }), z.lte(maximum, { error: expected }));
}

export function intFrom(minimum: number, maximum = 2 ** 31 - 1) {
  const expected =
    maximum === 2 ** 31 - 1 ? `an integer of at least ${minimum}` : `an integer from ${minimum} to ${maximum}`;
  return z.int({ error: expected }).check(z.gte(minimum, { error: expected }), z.lte(maximum, { error: expected }));
}

export function oneOf<const T extends string>(values: readonly T[]): z.ZodMiniType<T> {
  return z.enum(values as [T, ...T[]], { error: `one of ${values.map((value) => `'${value}'`).join(', ')}` });
}

/** As the addon takes them. */
const isFloat = (value: number) => Number.isFinite(Math.fround(value));
const floatFrom0 = z.number({ error: 'a number of at least 0' }).check(
  z.gte(0, { error: 'a number of at least 0' }),
  z.refine(isFloat, { error: 'a number of at least 0, below 3.4e38' }),
);
const finite = z.number({ error: 'a finite number' }).check(z.refine(isFloat, { error: 'a finite number, below 3.4e38' }));
export const atLeast0 = numberFrom(0, Infinity, 'a number of at least 0');
const above0 = z.number({ error: 'a number above 0' }).check(z.refine((value) => Math.fround(value) > 0 && isFloat(value), { error: 'a number above 0, from 1.5e-45 to 3.4e38' }));
const fraction = numberFrom(0, 1, 'a number from 0 to 1');
export const boolean = z.boolean({ error: 'true or false' });
export const orAgain: z.ZodMiniType<boolean | 'again'> = z.union([z.boolean(), z.literal('again')], { error: "true, false or 'again'" });
const string = z.string({ error: 'a string' });
export const nonEmpty = z.string({ error: 'a non-empty string' }).check(z.minLength(1, { error: 'a non-empty string' }));
const lastN = intFrom(-1);
/** For C a path ends at the first null byte, so that another file than the one that was checked would be opened. */
const pathText = string.check(z.refine((text) => !text.includes('\0'), { error: 'a path without null bytes' }));
export const path = nonEmpty.check(z.refine((text) => !text.includes('\0'), { error: 'a path without null bytes' }));

export const signal = z.custom<AbortSignal>(
  (value) => typeof value === 'object' && value !== null && 'aborted' in value && 'addEventListener' in value,
  { error: 'an AbortSignal' },
);

export const onProgress = z.custom<(fraction: number) => void>((value) => typeof value === 'function', { error: 'a function' });

const samplingShape: Shape<Sampling> = {
  temperature: optional(floatFrom0),
  topK: optional(intFrom(0)),
  topP: optional(fraction),
  minP: optional(fraction),
  typicalP: optional(fraction),
  topNSigma: optional(floatFrom0),
  repeatPenalty: optional(above0),
  frequencyPenalty: optional(finite),
  presencePenalty: optional(finite),
  penaltyLastN: optional(lastN),
  dry: optional(
    bag<Dry>(
      {
        multiplier: floatFrom0,
        base: optional(z.number({ error: 'a number of at least 1' }).check(z.gte(1, { error: 'a number of at least 1' }), z.refine(isFloat, { error: 'a number of at least 1, below 3.4e38' }))),
        allowedLength: optional(intFrom(0)),
        penaltyLastN: optional(lastN),
        sequenceBreakers: optional(z.array(nonEmpty, { error: 'an array of non-empty strings' })),
      },
      'an object with at least `multiplier`',
    ),
  ),
  xtc: optional(
    bag<Xtc>(
      { probability: fraction, threshold: optional(numberFrom(0, 0.5, 'a number from 0 to 0.5')) },
      'an object with at least `probability`',
    ),
  ),
  mirostat: optional(
    bag<Mirostat>(
      {
        version: z.union([z.literal(1), z.literal(2)], { error: '1 or 2' }),
        tau: optional(above0),
        eta: optional(above0),
      },
      'an object with at least `version`',
    ),
  ),
  seed: optional(intFrom(0, largestSeed)),
  logitBias: optional(
    z.transform((value, context): NonNullable<Sampling['logitBias']> => {
      const bias = copyBias(value);
      if (bias === undefined) context.issues.push({ code: 'custom', input: value, message: 'a Map or an object from token ids (integers of at least 0) to finite numbers or -Infinity' });
      return bias ?? {};
    }),
  ),
  samplers: optional(
    z
      .array(oneOf(samplingDefaults.samplers), { error: 'an array of sampler names' })
      .check(z.refine((names) => new Set(names).size === names.length, { error: 'an array without repeated names' })),
  ),
  grammar: optional(nonEmpty),
};

/** Theirs may change between the check and the use. Undefined if it is none. */
function copyBias(value: unknown): ReadonlyMap<number, number> | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const entries: [unknown, unknown][] = value instanceof Map ? [...value] : Object.entries(value).map(([key, bias]) => [/^\d+$/.test(key) ? Number(key) : NaN, bias]);
  const sound = entries.every(
    ([token, bias]) => Number.isInteger(token) && (token as number) >= 0 && (token as number) < 2 ** 31 && typeof bias === 'number' && (isFloat(bias) || bias === -Infinity),
  );
  return sound ? new Map(entries as [number, number][]) : undefined;
}

const generateShape: Shape<GenerateOptions> = {
  ...samplingShape,
  maxTokens: optional(intFrom(0)),
  stop: optional(
    z.union([nonEmpty, z.array(nonEmpty)], { error: 'a non-empty string or an array of them' }),
  ),
  ignoreEos: optional(boolean),
  logprobs: optional(intFrom(0, 100)),
  priority: optional(intFrom(-100, 100)),
  signal: optional(signal),
};

const generateOptions = bag<GenerateOptions>(generateShape);
const chatOptions = bag<ChatOptions>({
  ...generateShape,
  reasoning: optional(oneOf(['on', 'off'])),
  reasoningBudget: optional(intFrom(0)),
});

const contentExpected = "a string or an array of parts { type: 'text', text }";
const content = z.union(
  [string, z.array(bag<TextPart>({ type: z.literal('text'), text: string }))],
  { error: contentExpected },
);
const plainMessage = { role: z.union([z.literal('system'), z.literal('user')]), content };
const messageExpected = "a message: { role: 'system' | 'user' | 'assistant', content }";
const message = z.discriminatedUnion(
  'role',
  [
    z.strictObject(plainMessage, { error: messageExpected }),
    z.strictObject({ role: z.literal('assistant'), content, reasoning: optional(string) }, { error: messageExpected }),
  ],
  { error: messageExpected },
);
const messages = z
  .array(message, { error: 'an array of messages' })
  .check(z.minLength(1, { error: 'at least one message' })) as unknown as z.ZodMiniType<readonly Message[]>;
const prompt = z.union([string, messages]);

// Snapshot's module needs this one: its class is there when a value is checked, not yet when this line runs.
const snapshot = z.custom<Snapshot>((value) => value instanceof Snapshot, { error: 'a Snapshot' });
const sessionOptions = bag<SessionOptions>({
  system: optional(string),
  from: optional(snapshot),
  sampling: optional(bag<Sampling>(samplingShape)),
  onFull: optional(
    z.union([z.literal('error'), z.literal('shift'), z.custom<Extract<OnFull, (...args: never) => unknown>>((value) => typeof value === 'function')], {
      error: "'error', 'shift' or a function",
    }),
  ),
  pinned: optional(boolean),
});
const snapshotOptions = bag<SnapshotOptions>({ signal: optional(signal) });
const primeOptions = bag<PrimeOptions>({ reasoning: optional(oneOf(['on', 'off'])), signal: optional(signal) });

export const bytes = intFrom(0, Number.MAX_SAFE_INTEGER);
const packFolderOptions = bag<PackFolderOptions>({ folder: optional(path) });
const verifyPackOptions = bag<VerifyPackOptions>({ onProgress: optional(onProgress), signal: optional(signal) });

const importOptions = bag<ImportOptions>({
  type: optional(oneOf(['tq2_0', 'tq1_0'])),
  tokenizer: optional(path),
  embedding: optional(oneOf(['f16', 'q8_0', 'q6_K'])),
  onProgress: optional(onProgress),
  signal: optional(signal),
});

const quantizeOptions = bag<QuantizeOptions>({
  embedding: optional(oneOf(tensorTypes)),
  head: optional(oneOf(tensorTypes)),
  imatrix: optional(path),
  force: optional(boolean),
  allowRequantize: optional(boolean),
  threads: optional(intFrom(1, 512)),
  onProgress: optional(onProgress),
  signal: optional(signal),
});

const tokenizeOptions = bag<TokenizeOptions>({ special: optional(boolean), bos: optional(boolean) });
const detokenizeOptions = bag<DetokenizeOptions>({ special: optional(boolean) });
const renderOptions = bag<RenderOptions>({ reasoning: optional(oneOf(['on', 'off'])) });
const embedOptions = bag<EmbedOptions>({ normalize: optional(boolean), signal: optional(signal) });
const logitsOptions = bag<LogitsOptions>({ signal: optional(signal) });
const texts = z.array(string, { error: 'an array of strings' });
const tokens = z.union(
  [z.instanceof(Int32Array), z.array(intFrom(0))],
  { error: 'an Int32Array or an array of token ids' },
);

/** Readers: the checked copy of an argument, or ERR_INVALID_ARG. A bag that is left out reads as an empty one. */
export const read = {
  packFolderOptions: (call: string, value: unknown): PackFolderOptions => check(call, 'options', packFolderOptions, value ?? {}),
  verifyPackOptions: (value: unknown): VerifyPackOptions => check('verifyPack', 'options', verifyPackOptions, value ?? {}),
  importOptions: (value: unknown): ImportOptions => check('importModel', 'options', importOptions, value ?? {}),
  sessionOptions: (value: unknown): SessionOptions => {
    const options = check('model.session', 'options', sessionOptions, value ?? {});
    if (options.from !== undefined && options.system !== undefined) {
      refuse('model.session', 'options.system', 'options.system is given with options.from, which brings its own messages; leave one out');
    }
    return options;
  },
  snapshotOptions: (call: string, value: unknown): SnapshotOptions => check(call, 'options', snapshotOptions, value ?? {}),
  primeOptions: (value: unknown): PrimeOptions => check('model.prime', 'options', primeOptions, value ?? {}),
  snapshot: (call: string, value: unknown): Snapshot => check(call, 'snapshot', snapshot, value),
  bytes: (call: string, value: unknown): Uint8Array => check(call, 'bytes', z.instanceof(Uint8Array, { error: 'a Uint8Array' }), value),
  rewind: (value: unknown): number => check('session.rewind', 'messages', intFrom(-(2 ** 31)), value),
  conversation: (value: unknown): readonly Message[] => check('Snapshot', 'messages', z.array(message), value),
  chatOptions: (value: unknown): ChatOptions => check('session.chat', 'options', chatOptions, value ?? {}),
  completeOptions: (value: unknown): GenerateOptions => check('session.complete', 'options', generateOptions, value ?? {}),
  tokenizeOptions: (value: unknown): TokenizeOptions => check('model.tokenize', 'options', tokenizeOptions, value ?? {}),
  detokenizeOptions: (value: unknown): DetokenizeOptions => check('model.detokenize', 'options', detokenizeOptions, value ?? {}),
  renderOptions: (value: unknown): RenderOptions => check('model.render', 'options', renderOptions, value ?? {}),
  embedOptions: (value: unknown): EmbedOptions => check('model.embed', 'options', embedOptions, value ?? {}),
  quantizeOptions: (value: unknown): QuantizeOptions => check('quantize', 'options', quantizeOptions, value ?? {}),
  logitsOptions: (value: unknown): LogitsOptions => check('model.logits', 'options', logitsOptions, value ?? {}),
  text: (call: string, argument: string, value: unknown): string => check(call, argument, string, value),
  path: (call: string, argument: string, value: unknown): string => check(call, argument, pathText, value),
  texts: (call: string, value: unknown): readonly string[] => check(call, 'texts', texts, value),
  tokens: (call: string, value: unknown): Int32Array => Int32Array.from(check(call, 'tokens', tokens, value)),
  messages: (call: string, value: unknown): readonly Message[] => check(call, 'messages', messages, value),
  prompt: (value: unknown): string | readonly Message[] =>
    typeof value === 'string' ? value : check('session.chat', 'prompt', Array.isArray(value) ? messages : prompt, value),
};
