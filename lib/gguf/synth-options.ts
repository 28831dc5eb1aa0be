/**
 * What `synthesize` accepts.
 */
import { bag, boolean, intFrom, numberFrom, onProgress, oneOf, optional, path, signal } from '../options.js';
import { architectures, tensorTypes } from './shape.js';
import type { Shape, Types } from './shape.js';
import type { SynthOptions } from './synth.js';

const size = intFrom(0);
const layers = intFrom(1, 10_000);
const type = oneOf(tensorTypes);
const largestSeed = 2 ** 32 - 1;

export const synthOptions = bag<SynthOptions>({
  layers: optional(layers),
  types: optional(bag<Partial<Types>>({ matrices: optional(type), experts: optional(type), embedding: optional(type), head: optional(type) })),
  seed: optional(intFrom(0, largestSeed)),
  tokenizer: optional(path),
  headerOnly: optional(boolean),
  onProgress: optional(onProgress),
  signal: optional(signal),
});

/** That a model of these sizes can be is seen when its tensors are laid out. */
export const shapeSchema = bag<Shape>({
  architecture: oneOf(architectures),
  layers,
  width: size,
  feedForward: size,
  heads: size,
  kvHeads: size,
  headSize: size,
  vocabulary: size,
  context: size,
  ropeBase: numberFrom(0, 2 ** 31 - 1, 'a number from 0 to 2147483647'),
  epsilon: numberFrom(0, 1, 'a number from 0 to 1'),
  tied: boolean,
  ropeDimensions: optional(size),
  experts: optional(bag<NonNullable<Shape['experts']>>({ count: size, used: size, feedForward: size, shared: optional(size) }, '{ count, used, feedForward, shared }')),
  window: optional(size),
  activation: optional(oneOf(['relu2', 'silu'])),
  pooling: optional(oneOf(['mean', 'cls', 'last'])),
  linear: optional(bag<NonNullable<Shape['linear']>>({ keyHeads: size, valueHeads: size, state: size, convolution: size }, '{ keyHeads, valueHeads, state, convolution }')),
}, 'a preset\'s name or an object of sizes');
