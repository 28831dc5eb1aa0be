/**
 * True shapes of public models, and two of our own for benchmarks.
 */
import type { Shape, Types } from './shape.js';

/** A shape with the types that its model is commonly used in. */
export interface Preset {
  readonly shape: Shape;
  readonly types: Types;
}

const ternary: Types = { matrices: 'tq2_0', embedding: 'q8_0' };
const q4: Types = { matrices: 'q4_K', embedding: 'q4_K', head: 'q6_K' };
const iq2: Types = { matrices: 'iq2_s', embedding: 'q4_K', head: 'q5_K' };

const llama = { architecture: 'llama', headSize: 128, ropeBase: 1e6, epsilon: 1e-5, tied: false } as const;
const qwen3 = { architecture: 'qwen3', headSize: 128, vocabulary: 151_936, context: 40_960, ropeBase: 1e6, epsilon: 1e-6 } as const;
const qwen35 = { headSize: 256, vocabulary: 248_320, context: 262_144, ropeBase: 1e7, epsilon: 1e-6, ropeDimensions: 64 } as const;

/** Sizes are those of the models' published configurations. */
export const presets = {
  S: { shape: { ...llama, layers: 4, width: 256, feedForward: 768, heads: 4, kvHeads: 2, headSize: 64, vocabulary: 32_000, context: 8192, ropeBase: 1e4 }, types: ternary },
  M: { shape: { ...llama, layers: 16, width: 2048, feedForward: 8192, heads: 32, kvHeads: 8, headSize: 64, vocabulary: 32_000, context: 8192, ropeBase: 1e4 }, types: ternary },
  'bitnet-b1.58-2B-4T': { shape: { architecture: 'bitnet', layers: 30, width: 2560, feedForward: 6912, heads: 20, kvHeads: 5, headSize: 128, vocabulary: 128_256, context: 4096, ropeBase: 5e5, epsilon: 1e-5, tied: true, activation: 'relu2' }, types: { matrices: 'tq2_0', embedding: 'q6_K' } },
  'TriLM-3.9B': { shape: { ...llama, layers: 30, width: 3072, feedForward: 9216, heads: 24, kvHeads: 24, vocabulary: 50_688, context: 2048, ropeBase: 1e4 }, types: { matrices: 'tq2_0', embedding: 'q4_0', head: 'q6_K' } },
  'Llama3-8B-1.58': { shape: { ...llama, layers: 32, width: 4096, feedForward: 14_336, heads: 32, kvHeads: 8, vocabulary: 128_256, context: 8192, ropeBase: 5e5 }, types: { matrices: 'tq2_0', embedding: 'q4_0', head: 'q6_K' } },
  'Falcon3-7B-1.58': { shape: { ...llama, layers: 28, width: 3072, feedForward: 23_040, heads: 12, kvHeads: 4, headSize: 256, vocabulary: 131_072, context: 32_768, ropeBase: 1_000_042, epsilon: 1e-6 }, types: { matrices: 'tq2_0', embedding: 'q4_0', head: 'q6_K' } },
  'Falcon-E-1B': { shape: { ...llama, layers: 24, width: 2048, feedForward: 9216, heads: 16, kvHeads: 2, vocabulary: 32_768, context: 32_768 }, types: { matrices: 'tq2_0', embedding: 'q6_K' } },
  'Bonsai-1.7B': { shape: { ...qwen3, layers: 28, width: 2048, feedForward: 6144, heads: 16, kvHeads: 8, tied: true }, types: { matrices: 'q1_0', embedding: 'q1_0' } },
  'Bonsai-8B': { shape: { ...qwen3, layers: 36, width: 4096, feedForward: 12_288, heads: 32, kvHeads: 8, tied: false }, types: { matrices: 'q1_0', embedding: 'q1_0' } },
  'Ternary-Bonsai-8B': { shape: { ...qwen3, layers: 36, width: 4096, feedForward: 12_288, heads: 32, kvHeads: 8, tied: false }, types: { matrices: 'q2_0', embedding: 'q2_0' } },
  'Hy-MT-1.8B': { shape: { architecture: 'hunyuan-dense', layers: 32, width: 2048, feedForward: 6144, heads: 16, kvHeads: 4, headSize: 128, vocabulary: 120_818, context: 262_144, ropeBase: 1e4, epsilon: 1e-5, tied: true }, types: { matrices: 'tq2_0', embedding: 'q6_K' } },
  'Llama-3.2-1B': { shape: { ...llama, layers: 16, width: 2048, feedForward: 8192, heads: 32, kvHeads: 8, headSize: 64, vocabulary: 128_256, context: 131_072, ropeBase: 5e5, tied: true }, types: { matrices: 'q4_K', embedding: 'q6_K' } },
  'Qwen3-0.6B': { shape: { ...qwen3, layers: 28, width: 1024, feedForward: 3072, heads: 16, kvHeads: 8, tied: true }, types: { matrices: 'q8_0', embedding: 'q8_0' } },
  'Qwen3-4B': { shape: { ...qwen3, layers: 36, width: 2560, feedForward: 9728, heads: 32, kvHeads: 8, tied: true }, types: { matrices: 'q4_K', embedding: 'q6_K' } },
  'Qwen3-8B': { shape: { ...qwen3, layers: 36, width: 4096, feedForward: 12_288, heads: 32, kvHeads: 8, tied: false }, types: q4 },
  'Qwen3-14B': { shape: { ...qwen3, layers: 40, width: 5120, feedForward: 17_408, heads: 40, kvHeads: 8, tied: false }, types: q4 },
  'Qwen3-30B-A3B': { shape: { ...qwen3, architecture: 'qwen3moe', layers: 48, width: 2048, feedForward: 6144, heads: 32, kvHeads: 4, tied: false, experts: { count: 128, used: 8, feedForward: 768 } }, types: iq2 },
  'Qwen3.5-9B': { shape: { ...qwen35, architecture: 'qwen35', layers: 32, width: 4096, feedForward: 12_288, heads: 16, kvHeads: 4, tied: false, linear: { keyHeads: 16, valueHeads: 32, state: 128, convolution: 4 } }, types: q4 },
  'Qwen3.5-27B': { shape: { ...qwen35, architecture: 'qwen35', layers: 64, width: 5120, feedForward: 17_408, heads: 24, kvHeads: 4, tied: false, linear: { keyHeads: 16, valueHeads: 48, state: 128, convolution: 4 } }, types: iq2 },
  'Qwen3.5-35B-A3B': { shape: { ...qwen35, architecture: 'qwen35moe', layers: 40, width: 2048, feedForward: 0, heads: 16, kvHeads: 2, tied: false, experts: { count: 256, used: 8, feedForward: 512, shared: 512 }, linear: { keyHeads: 16, valueHeads: 32, state: 128, convolution: 4 } }, types: iq2 },
  'QwQ-32B': { shape: { architecture: 'qwen2', layers: 64, width: 5120, feedForward: 27_648, heads: 40, kvHeads: 8, headSize: 128, vocabulary: 152_064, context: 40_960, ropeBase: 1e6, epsilon: 1e-5, tied: false }, types: iq2 },
  'Mistral-Nemo-12B': { shape: { ...llama, layers: 40, width: 5120, feedForward: 14_336, heads: 32, kvHeads: 8, vocabulary: 131_072, context: 131_072 }, types: q4 },
  'Mistral-Small-3.2-24B': { shape: { ...llama, layers: 40, width: 5120, feedForward: 32_768, heads: 32, kvHeads: 8, vocabulary: 131_072, context: 131_072, ropeBase: 1e9 }, types: { matrices: 'q3_K', embedding: 'q3_K', head: 'q6_K' } },
  'Phi-4-14B': { shape: { architecture: 'phi3', layers: 40, width: 5120, feedForward: 17_920, heads: 40, kvHeads: 10, headSize: 128, vocabulary: 100_352, context: 16_384, ropeBase: 2.5e5, epsilon: 1e-5, tied: false }, types: q4 },
  'Phi-4-mini': { shape: { architecture: 'phi3', layers: 32, width: 3072, feedForward: 8192, heads: 24, kvHeads: 8, headSize: 128, vocabulary: 200_064, context: 131_072, ropeBase: 1e4, epsilon: 1e-5, tied: true, ropeDimensions: 96 }, types: { matrices: 'q4_K', embedding: 'q6_K' } },
  'Gemma-3-4B': { shape: { architecture: 'gemma3', layers: 34, width: 2560, feedForward: 10_240, heads: 8, kvHeads: 4, headSize: 256, vocabulary: 262_208, context: 131_072, ropeBase: 1e6, epsilon: 1e-6, tied: true, window: 1024 }, types: { matrices: 'q4_K', embedding: 'q6_K' } },
  'gpt-oss-20B': { shape: { architecture: 'gpt-oss', layers: 24, width: 2880, feedForward: 2880, heads: 64, kvHeads: 8, headSize: 64, vocabulary: 201_088, context: 131_072, ropeBase: 1.5e5, epsilon: 1e-5, tied: false, window: 128, experts: { count: 32, used: 4, feedForward: 2880 } }, types: { matrices: 'q8_0', experts: 'mxfp4', embedding: 'q8_0' } },
} as const satisfies Readonly<Record<string, Preset>>;

export type PresetName = keyof typeof presets;
