/**
 * What `loadModel` accepts.
 */
import { z } from 'zod/mini';
import type { CacheOptions } from './cache.js';
import { patternProblem } from './experts.js';
import type { ExpertCacheOptions, Experts } from './experts.js';
import { kvTypes } from './kv.js';
import type { LoadOptions } from './load.js';
import { bag, boolean, bytes, intFrom, nonEmpty, onProgress, oneOf, optional, path, signal } from './options.js';
import type { Shape } from './options.js';
import type { PackCacheOptions } from './packs.js';
import type { Plan } from './plan/plan.js';
import { check, refuse } from './validate.js';

const kvExpected = `one of ${kvTypes.map((type) => `'${type}'`).join(', ')}, or { k, v } of them`;
const kvType = oneOf(kvTypes);
const mostLayers = 1000;
const largestUbatch = 16_384;
const flashAttention = z.union([z.boolean(), z.literal('auto')], { error: "'auto', true or false" });
const overrides = z
  .record(nonEmpty, nonEmpty, { error: 'an object of patterns and device ids' })
  .check(
    z.refine((patterns) => Object.keys(patterns).length > 0, { error: 'at least one pattern' }),
    z.refine((patterns) => Object.keys(patterns).every((pattern) => patternProblem(pattern) === undefined), {
      error: ({ input }) => `patterns that are matched soon: ${Object.keys(input as object).map(patternProblem).find((problem) => problem !== undefined)}`,
    }),
  );
const experts = z.union([oneOf(['gpu', 'cpu']), bag<{ cpuLayers: number }>({ cpuLayers: intFrom(0, mostLayers) }), bag<{ overrides: Readonly<Record<string, string>> }>({ overrides })], {
  error: "'gpu', 'cpu', { cpuLayers } or { overrides }",
}) as z.ZodMiniType<Experts>;
/** What a plan decides is not said beside it. */
const decided = ['devices', 'gpuLayers', 'experts', 'expertCache', 'context', 'sequences', 'kvTokens', 'spareSequences', 'threads', 'ubatch', 'flashAttention', 'kv', 'allowFallback'] as const;
/** Of `loadModel`'s options, which a plan's request has too. */
export const loadShape: Shape<Omit<LoadOptions, 'plan'>> = {
  devices: optional(
    z
      .array(nonEmpty, { error: 'an array of device ids' })
      .check(
        z.minLength(1, { error: "at least one device id; ['cpu'] keeps to the CPU" }),
        z.refine((ids) => new Set(ids).size === ids.length, { error: 'an array without repeated ids' }),
      ),
  ),
  gpuLayers: optional(
    z.union([z.literal('all'), intFrom(0)], { error: "'all' or an integer of at least 0" }),
  ),
  experts: optional(experts),
  expertCache: optional(bag<ExpertCacheOptions>({ deviceBytes: bytes })),
  countExperts: optional(boolean),
  context: optional(
    z.union([z.literal('trained'), intFrom(1)], { error: "'trained' or an integer of at least 1, in tokens" }),
  ),
  sequences: optional(intFrom(1, 254)),
  kvTokens: optional(intFrom(1)),
  spareSequences: optional(intFrom(0, 253)),
  cache: optional(
    bag<CacheOptions>({ ramBytes: optional(bytes), diskBytes: optional(bytes), diskDir: optional(path), checkpointBytes: optional(bytes) }),
  ),
  threads: optional(intFrom(1, 512)),
  ubatch: optional(intFrom(1, largestUbatch)),
  flashAttention: optional(flashAttention),
  kv: optional(z.union([kvType, z.strictObject({ k: kvType, v: kvType })], { error: kvExpected })),
  allowFallback: optional(z.union([z.boolean(), z.literal('operations')], { error: "true, false or 'operations'" })),
  keepAlive: optional(intFrom(0)),
  mmap: optional(boolean),
  packCache: optional(z.union([boolean, bag<PackCacheOptions>({ folder: optional(path), maxBytes: optional(bytes), verify: optional(boolean) })], { error: 'true, false or an object of options' })),
  onProgress: optional(onProgress),
  signal: optional(signal),
};
const made = { error: 'as plan() made it' };
const text = z.string(made);
const part = z.looseObject({ device: nonEmpty, description: text, pool: nonEmpty, reserveBytes: bytes, cacheBytes: bytes, weightBytes: bytes, kvBytes: bytes, stateBytes: bytes, computeBytes: bytes, expertCacheBytes: bytes }, made);
/** What is followed of a plan: everything else in it is for reading. */
const planned = z.looseObject(
  {
    version: z.literal(1, { error: '1, of the plans that this version of ternion makes' }),
    fits: boolean,
    model: z.looseObject({ name: text, architecture: text, parameters: z.number(made), layers: z.number(made) }, made),
    devices: z.array(nonEmpty, made).check(z.minLength(1, made)),
    gpuLayers: z.union([z.literal('all'), intFrom(0)], made),
    experts,
    context: intFrom(1), sequences: intFrom(1, 254), kvTokens: intFrom(1), spareSequences: intFrom(0, 253), threads: intFrom(1, 512),
    ubatch: intFrom(1, largestUbatch), flashAttention: boolean, flashAttentionAsked: flashAttention,
    kv: z.strictObject({ k: kvType, v: kvType }, { error: kvExpected }),
    ramBytes: bytes, checkpointBytes: bytes, expertCacheBytes: bytes,
    allowFallback: z.union([z.boolean(), z.literal('operations')], made),
    memory: z.array(part, made).check(z.refine((parts) => parts.some(({ device }) => device === 'cpu'), { error: 'a list with the CPU' })),
    shortages: z.array(z.looseObject({ device: nonEmpty, neededBytes: bytes, availableBytes: bytes }, made), made),
  },
  { error: 'a plan that plan() made' },
) as unknown as z.ZodMiniType<Plan>;
const loadOptions = bag<LoadOptions>({ ...loadShape, plan: optional(planned) });

export function readLoadOptions(value: unknown): LoadOptions {
  const options = check('loadModel', 'options', loadOptions, value ?? {});
  const twice = options.plan === undefined ? undefined : decided.find((key) => options[key] !== undefined);
  if (twice !== undefined) refuse('loadModel', `options.${twice}`, `options.${twice} is given with options.plan, which decides it; leave one out`);
  const budget = options.plan === undefined ? undefined : (['ramBytes', 'checkpointBytes'] as const).find((key) => options.cache?.[key] !== undefined);
  if (budget !== undefined) refuse('loadModel', `options.cache.${budget}`, `options.cache.${budget} is given with options.plan, which decides it; leave one out`);
  return options;
}
