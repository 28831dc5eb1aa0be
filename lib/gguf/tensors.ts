/**
 * From a shape to the tensors and the metadata that llama.cpp's loader of its architecture asks for.
 */
import type { NativeSynthOptions, NativeSynthValue } from './native.js';
import type { Shape, TensorType, Types } from './shape.js';

type Tensor = NativeSynthOptions['tensors'][number];

/** A matrix that keeps the size of what passes through it: weights deviate by 1 / sqrt(row length). */
function matrix(name: string, type: TensorType, ...shape: number[]): Tensor {
  return { name: `${name}.weight`, type, shape: Int32Array.from(shape), random: true, value: (shape[0] ?? 1) ** -0.5 };
}

function constant(name: string, value: number, ...shape: number[]): Tensor {
  return { name, type: 'f32', shape: Int32Array.from(shape), random: false, value };
}

const isBitnet = (architecture: string) => ['bitnet', 'bitnet-25', 'bitnet-b1.58'].includes(architecture);
const norm = (name: string, size: number) => constant(`${name}.weight`, 1, size);
const bias = (name: string, ...shape: number[]) => constant(`${name}.bias`, 0, ...shape);

/** Every tensor, in the order of the file. */
export function tensorsOf(shape: Shape, types: Types): Tensor[] {
  const layers = Array.from({ length: shape.layers }, (_, i) => layer(shape, types, i).map((tensor) => ({ ...tensor, name: `blk.${i}.${tensor.name}` })));
  return [
    { ...matrix('token_embd', types.embedding, shape.width, shape.vocabulary), value: 1 },
    norm('output_norm', shape.width),
    ...(shape.tied ? [] : [matrix('output', types.head ?? types.embedding, shape.width, shape.vocabulary)]),
    ...layers.flat(),
  ];
}

function layer(shape: Shape, types: Types, index: number): Tensor[] {
  const { architecture, width } = shape;
  const recurrent = shape.linear !== undefined && (index + 1) % 4 !== 0;
  // The norm before the feed-forward goes by another name where one follows the attention.
  const second = ['gpt-oss', 'qwen35', 'qwen35moe'].includes(architecture) ? 'post_attention_norm' : 'ffn_norm';
  return [
    norm('attn_norm', width),
    ...(recurrent ? deltaNet(shape, types) : attention(shape, types)),
    norm(second, width),
    ...(architecture === 'gemma3' ? [norm('post_attention_norm', width), norm('post_ffw_norm', width)] : []),
    ...(shape.experts === undefined ? feedForward(shape, types) : mixture(shape, types, shape.experts)),
  ];
}

function attention(shape: Shape, { matrices }: Types): Tensor[] {
  const { architecture, width, heads, kvHeads, headSize } = shape;
  const [q, kv] = [heads * headSize, kvHeads * headSize];
  const gated = architecture === 'qwen35' || architecture === 'qwen35moe'; // the query comes with a gate of its size
  const biases = {
    'gpt-oss': [bias('attn_q', q), bias('attn_k', kv), bias('attn_v', kv), bias('attn_output', width), constant('attn_sinks.weight', 0, heads)],
    qwen2: [bias('attn_q', q), bias('attn_k', kv), bias('attn_v', kv)],
  };
  return [
    ...(architecture === 'phi3'
      ? [matrix('attn_qkv', matrices, width, q + 2 * kv)]
      : [matrix('attn_q', matrices, width, gated ? 2 * q : q), matrix('attn_k', matrices, width, kv), matrix('attn_v', matrices, width, kv)]),
    matrix('attn_output', matrices, q, width),
    ...(['qwen3', 'qwen3moe', 'qwen35', 'qwen35moe', 'hunyuan-dense', 'gemma3'].includes(architecture) ? [norm('attn_q_norm', headSize), norm('attn_k_norm', headSize)] : []),
    ...(isBitnet(architecture) ? [norm('attn_sub_norm', width)] : []),
    ...(architecture === 'gpt-oss' || architecture === 'qwen2' ? biases[architecture] : []),
  ];
}

function deltaNet({ width, linear }: Shape, { matrices }: Types): Tensor[] {
  if (linear === undefined) return [];
  const [keys, values] = [linear.keyHeads * linear.state, linear.valueHeads * linear.state];
  return [
    matrix('attn_qkv', matrices, width, 2 * keys + values),
    matrix('attn_gate', matrices, width, values),
    matrix('ssm_conv1d', 'f32', linear.convolution, 2 * keys + values),
    bias('ssm_dt', linear.valueHeads),
    constant('ssm_a', -1, linear.valueHeads), // decay: negative
    matrix('ssm_beta', matrices, width, linear.valueHeads),
    matrix('ssm_alpha', matrices, width, linear.valueHeads),
    norm('ssm_norm', linear.state),
    matrix('ssm_out', matrices, values, width),
  ];
}

function feedForward({ architecture, width, feedForward: size }: Shape, { matrices }: Types): Tensor[] {
  return [
    ...(architecture === 'phi3' ? [matrix('ffn_up', matrices, width, 2 * size)] : [matrix('ffn_gate', matrices, width, size), matrix('ffn_up', matrices, width, size)]),
    matrix('ffn_down', matrices, size, width),
    ...(isBitnet(architecture) ? [norm('ffn_sub_norm', size)] : []),
  ];
}

function mixture({ architecture, width }: Shape, types: Types, { count, feedForward: size, shared }: NonNullable<Shape['experts']>): Tensor[] {
  const type = types.experts ?? types.matrices;
  return [
    matrix('ffn_gate_inp', 'f32', width, count),
    matrix('ffn_gate_exps', type, width, size, count),
    matrix('ffn_up_exps', type, width, size, count),
    matrix('ffn_down_exps', type, size, width, count),
    ...(architecture === 'gpt-oss'
      ? [bias('ffn_gate_inp', count), bias('ffn_gate_exps', size, count), bias('ffn_up_exps', size, count), bias('ffn_down_exps', width, count)]
      : []),
    ...(shared === undefined
      ? []
      : [
          matrix('ffn_gate_inp_shexp', 'f32', width),
          matrix('ffn_gate_shexp', types.matrices, width, shared),
          matrix('ffn_up_shexp', types.matrices, width, shared),
          matrix('ffn_down_shexp', types.matrices, shared, width),
        ]),
  ];
}

/** Metadata without the tokenizer's. */
export function metadataOf(shape: Shape, name: string): NativeSynthValue[] {
  const { architecture, experts, linear } = shape;
  const u32 = (key: string, value: number): NativeSynthValue => ({ key: `${architecture}.${key}`, type: 'u32', value });
  const f32 = (key: string, value: number): NativeSynthValue => ({ key: `${architecture}.${key}`, type: 'f32', value });
  return [
    { key: 'general.architecture', type: 'str', value: architecture },
    { key: 'general.name', type: 'str', value: name },
    { key: 'general.description', type: 'str', value: 'random weights' },
    u32('context_length', shape.context),
    u32('embedding_length', shape.width),
    u32('block_count', shape.layers),
    u32('feed_forward_length', shape.feedForward),
    u32('attention.head_count', shape.heads),
    u32('attention.head_count_kv', shape.kvHeads),
    u32('attention.key_length', shape.headSize),
    u32('attention.value_length', shape.headSize),
    f32('attention.layer_norm_rms_epsilon', shape.epsilon),
    f32('rope.freq_base', shape.ropeBase),
    u32('rope.dimension_count', shape.ropeDimensions ?? shape.headSize),
    u32('vocab_size', shape.vocabulary),
    ...(shape.activation === undefined ? [] : [{ key: `${architecture}.feed_forward.activation`, type: 'str', value: shape.activation } as const]),
    ...(shape.pooling === undefined ? [] : [u32('pooling_type', { mean: 1, cls: 2, last: 3 }[shape.pooling])]),
    ...(architecture === 'llama-embed' ? [{ key: `${architecture}.attention.causal`, type: 'bool', value: false } as const] : []),
    ...(shape.window === undefined ? [] : [u32('attention.sliding_window', shape.window)]),
    ...(experts === undefined
      ? []
      : [u32('expert_count', experts.count), u32('expert_used_count', experts.used), u32('expert_feed_forward_length', experts.feedForward)]),
    ...(experts?.shared === undefined ? [] : [u32('expert_shared_feed_forward_length', experts.shared)]),
    ...(linear === undefined
      ? []
      : [
          { key: `${architecture}.rope.dimension_sections`, type: 'i32s', value: Int32Array.of(11, 11, 10, 0) } as const,
          u32('ssm.conv_kernel', linear.convolution),
          u32('ssm.inner_size', linear.valueHeads * linear.state),
          u32('ssm.state_size', linear.state),
          u32('ssm.time_step_rank', linear.valueHeads),
          u32('ssm.group_count', linear.keyHeads),
        ]),
  ];
}
