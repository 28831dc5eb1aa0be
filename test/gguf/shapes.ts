// Small models of every architecture that can be made.
import type { Architecture, Shape } from '../../dist/gguf/index.js';

export const small: Omit<Shape, 'architecture'> = {
  layers: 4, width: 256, feedForward: 512, heads: 4, kvHeads: 2, headSize: 64, vocabulary: 4096, context: 512, ropeBase: 1e4, epsilon: 1e-5, tied: false,
};
const experts = { count: 8, used: 2, feedForward: 256 };
const linear = { keyHeads: 2, valueHeads: 4, state: 64, convolution: 4 };
/** Each architecture, as small as its types allow. */
export const shapes: Record<Exclude<Architecture, 'llama-embed'>, Shape> = {
  llama: { ...small, architecture: 'llama' },
  qwen2: { ...small, architecture: 'qwen2' },
  qwen3: { ...small, architecture: 'qwen3', tied: true },
  qwen3moe: { ...small, architecture: 'qwen3moe', experts },
  qwen35: { ...small, architecture: 'qwen35', linear },
  qwen35moe: { ...small, architecture: 'qwen35moe', feedForward: 0, experts: { ...experts, shared: 256 }, linear },
  'hunyuan-dense': { ...small, architecture: 'hunyuan-dense', tied: true },
  bitnet: { ...small, architecture: 'bitnet', tied: true },
  'bitnet-25': { ...small, architecture: 'bitnet-25' },
  'bitnet-b1.58': { ...small, architecture: 'bitnet-b1.58', tied: true, activation: 'relu2' },
  phi3: { ...small, architecture: 'phi3' },
  gemma3: { ...small, architecture: 'gemma3', tied: true, window: 64 },
  'gpt-oss': { ...small, architecture: 'gpt-oss', experts, window: 64 },
};
