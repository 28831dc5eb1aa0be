/**
 * How the next token is chosen: the options, their defaults, and what the addon gets.
 */
import type { NativeSampling } from './native-session.js';
import { wellFormed } from './text.js';
import { refuse } from './validate.js';

/** A stage of the sampler chain. `penalties` stands for the repeat, frequency and presence penalties. */
export type SamplerName = 'penalties' | 'dry' | 'topNSigma' | 'topK' | 'typicalP' | 'topP' | 'minP' | 'xtc' | 'temperature';

/** DRY: a penalty that grows with the length of the repetition that a token would continue. */
export interface Dry {
  /** Strength; 0 = off. */
  readonly multiplier: number;
  /** Growth per repeated token, at least 1. Default 1.75. */
  readonly base?: number | undefined;
  /** Tokens that may repeat for free. Default 2. */
  readonly allowedLength?: number | undefined;
  /** Tokens that are searched for repetitions; 0 = off, -1 = as many as the model was trained for. Default 64. */
  readonly penaltyLastN?: number | undefined;
  /** Strings over which no repetition is counted. Default newline, `:`, `"` and `*`. */
  readonly sequenceBreakers?: readonly string[] | undefined;
}

/** XTC: now and then leaves out the most likely tokens, all but the least likely of those above the threshold. */
export interface Xtc {
  /** How often, 0 (never) to 1. */
  readonly probability: number;
  /** Tokens at least this likely may be left out, 0 to 0.5. Default 0.1. */
  readonly threshold?: number | undefined;
}

/** Mirostat holds the surprise of the text constant. It replaces every other sampler except the temperature. */
export interface Mirostat {
  readonly version: 1 | 2;
  /** Target surprise in nats. Default 5. */
  readonly tau?: number | undefined;
  /** Learning rate. Default 0.1. */
  readonly eta?: number | undefined;
}

/**
 * Sampling options. What is left out has the default of llama.cpp's own tools ({@link samplingDefaults}); a value that
 * switches its sampler off is given with each.
 */
export interface Sampling {
  /** 0 = greedy: always the most likely token. Default 0.8. */
  readonly temperature?: number | undefined;
  /** Only the k most likely tokens; 0 = off. Default 40. */
  readonly topK?: number | undefined;
  /** Only the most likely tokens that together reach this probability; 1 = off. Default 0.95. */
  readonly topP?: number | undefined;
  /** Only tokens at least this fraction as likely as the most likely one; 0 = off. Default 0.05. */
  readonly minP?: number | undefined;
  /** Locally typical sampling; 1 = off. Default 1. */
  readonly typicalP?: number | undefined;
  /** Only tokens within this many standard deviations of the highest logit; 0 = off. Default 0. */
  readonly topNSigma?: number | undefined;
  /** Divides the logits of tokens seen before; 1 = off. Default 1. */
  readonly repeatPenalty?: number | undefined;
  /** Subtracted once per occurrence; 0 = off. Default 0. */
  readonly frequencyPenalty?: number | undefined;
  /** Subtracted from every token that occurred; 0 = off. Default 0. */
  readonly presencePenalty?: number | undefined;
  /** Tokens that those three look back; 0 = off, -1 = as many as the model was trained for. Default 64. */
  readonly penaltyLastN?: number | undefined;
  readonly dry?: Dry | undefined;
  readonly xtc?: Xtc | undefined;
  readonly mirostat?: Mirostat | undefined;
  /** 0 to 4294967294. Default: a random one, reported as `seed` of the generation, so that any run can be repeated. */
  readonly seed?: number | undefined;
  /** Added to the logit of a token, by token id; `-Infinity` forbids it. */
  readonly logitBias?: ReadonlyMap<number, number> | Readonly<Record<number, number>> | undefined;
  /** The samplers that run, in order. Default {@link samplingDefaults}`.samplers`. */
  readonly samplers?: readonly SamplerName[] | undefined;
  /** A GBNF grammar with a rule `root`; the text is a sentence of it, or the beginning of one. */
  readonly grammar?: string | undefined;
}

/** The defaults: `common_params_sampling` in `common/common.h` of the vendored llama.cpp, by our names and off-values. */
export const samplingDefaults = Object.freeze({
  temperature: 0.8,
  topK: 40,
  topP: 0.95,
  minP: 0.05,
  typicalP: 1,
  topNSigma: 0,
  repeatPenalty: 1,
  frequencyPenalty: 0,
  presencePenalty: 0,
  penaltyLastN: 64,
  dry: Object.freeze({ multiplier: 0, base: 1.75, allowedLength: 2, penaltyLastN: 64, sequenceBreakers: Object.freeze(['\n', ':', '"', '*']) }),
  xtc: Object.freeze({ probability: 0, threshold: 0.1 }),
  mirostat: Object.freeze({ tau: 5, eta: 0.1 }),
  samplers: Object.freeze([
    'penalties', 'dry', 'topNSigma', 'topK', 'typicalP', 'topP', 'minP', 'xtc', 'temperature',
  ] as const satisfies readonly SamplerName[]),
});

/** llama.cpp takes 2^32-1 to mean "choose one yourself". */
export const largestSeed = 2 ** 32 - 2;

/** Which stage of the chain an option belongs to; `samplers` must not leave it out while the option is given. */
const stageOf = {
  temperature: 'temperature', topK: 'topK', topP: 'topP', minP: 'minP', typicalP: 'typicalP', topNSigma: 'topNSigma',
  repeatPenalty: 'penalties', frequencyPenalty: 'penalties', presencePenalty: 'penalties', penaltyLastN: 'penalties',
  dry: 'dry', xtc: 'xtc',
} as const satisfies Partial<Record<keyof Sampling, SamplerName>>;

/** The bags one over the other: an option of the later one wins, an undefined one counts as left out. */
export function mergeSampling(below: Sampling, above: Sampling): Sampling {
  const given = Object.entries(above).filter(([, value]) => value !== undefined);
  return { ...below, ...Object.fromEntries(given) };
}

/**
 * Everything that the addon is to be told.
 *
 * @param call - for error messages
 * @throws ERR_INVALID_ARG if one option would silently undo another.
 */
export function toNativeSampling(call: string, sampling: Sampling): NativeSampling {
  const d = samplingDefaults;
  refuseConflicts(call, sampling);
  const bias = biasEntries(sampling.logitBias);
  return {
    temperature: sampling.temperature ?? d.temperature,
    topK: sampling.topK ?? d.topK,
    topP: sampling.topP ?? d.topP,
    minP: sampling.minP ?? d.minP,
    typicalP: sampling.typicalP ?? d.typicalP,
    topNSigma: sampling.topNSigma ?? d.topNSigma,
    repeatPenalty: sampling.repeatPenalty ?? d.repeatPenalty,
    frequencyPenalty: sampling.frequencyPenalty ?? d.frequencyPenalty,
    presencePenalty: sampling.presencePenalty ?? d.presencePenalty,
    penaltyLastN: sampling.penaltyLastN ?? d.penaltyLastN,
    dryMultiplier: sampling.dry?.multiplier ?? d.dry.multiplier,
    dryBase: sampling.dry?.base ?? d.dry.base,
    dryAllowedLength: sampling.dry?.allowedLength ?? d.dry.allowedLength,
    dryPenaltyLastN: sampling.dry?.penaltyLastN ?? d.dry.penaltyLastN,
    drySequenceBreakers: (sampling.dry?.sequenceBreakers ?? d.dry.sequenceBreakers).map(wellFormed),
    xtcProbability: sampling.xtc?.probability ?? d.xtc.probability,
    xtcThreshold: sampling.xtc?.threshold ?? d.xtc.threshold,
    mirostat: sampling.mirostat?.version ?? 0,
    mirostatTau: sampling.mirostat?.tau ?? d.mirostat.tau,
    mirostatEta: sampling.mirostat?.eta ?? d.mirostat.eta,
    seed: sampling.seed ?? randomSeed(),
    biasTokens: Int32Array.from(bias, ([token]) => token),
    biasValues: Float32Array.from(bias, ([, value]) => value),
    order: [...(sampling.samplers ?? d.samplers)],
    grammar: wellFormed(sampling.grammar ?? ''),
  };
}

function refuseConflicts(call: string, sampling: Sampling): void {
  for (const [option, stage] of Object.entries(stageOf) as [keyof typeof stageOf, SamplerName][]) {
    if (sampling[option] === undefined) continue;
    if (sampling.mirostat !== undefined && option !== 'temperature') {
      refuse(call, `options.${option}`, `options.${option} has no effect beside mirostat, which replaces that sampler; leave one of them out`);
    }
    if (sampling.samplers !== undefined && !sampling.samplers.includes(stage)) {
      refuse(call, `options.${option}`, `options.${option} has no effect, because options.samplers leaves out "${stage}"; add it there or leave out ${option}`);
    }
  }
  if (sampling.mirostat !== undefined && sampling.samplers !== undefined) {
    refuse(call, 'options.samplers', 'options.samplers has no effect beside mirostat, which replaces the chain; leave one of them out');
  }
}

function biasEntries(bias: Sampling['logitBias']): [number, number][] {
  if (bias === undefined) return [];
  if (bias instanceof Map) return [...(bias as Map<number, number>)];
  return Object.entries(bias as Record<number, number>).map(([token, value]) => [Number(token), value]);
}

function randomSeed(): number {
  return Math.floor(Math.random() * (largestSeed + 1));
}
