/** ternion/quality: how well a model predicts, and how much two differ. */
export { compare } from './compare.js';
export type { Comparison } from './compare.js';
export type { QualityOptions } from './chunks.js';
export { perplexity } from './perplexity.js';
export type { Perplexity } from './perplexity.js';
