/**
 * What a GGUF file's header says about running it: bytes by type and role, bytes read per token, KV cache per token.
 */
import type { Inspection } from '../inspect.js';
import { kvTypes } from '../kv.js';
import type { KvType } from '../kv.js';
import { inspectParts } from './parts.js';
import type { Parts } from './parts.js';

/** What a tensor is for. */
export type Role = 'embedding' | 'head' | 'attention' | 'feedForward' | 'experts' | 'sharedExperts' | 'router' | 'recurrent' | 'norms' | 'other';

/** Facts from the header alone. Bytes are bytes; nothing is estimated. */
export interface Description {
  readonly architecture: string;
  readonly name: string | undefined;
  readonly parameters: number;
  readonly bytesByType: Readonly<Record<string, { readonly tensors: number; readonly bytes: number }>>;
  readonly bytesByRole: Readonly<Partial<Record<Role, number>>>;
  /** Weights that one decoded token reads: of the embedding one row, of a mixture's experts those that work. */
  readonly bytesPerToken: number;
  readonly layers: number;
  /** Layers whose cache grows with the whole context, with a window, and not at all. */
  readonly attentionLayers: { readonly full: number; readonly windowed: number; readonly recurrent: number };
  /** Tokens that windowed layers look back. */
  readonly window: number | undefined;
  /** Bytes that one token takes in the caches of all full layers, by type of both keys and values; windowed layers apart. */
  readonly kvBytesPerToken: Readonly<Record<KvType, number>>;
  readonly windowedKvBytesPerToken: Readonly<Record<KvType, number>>;
  readonly trainedContext: number | undefined;
  readonly experts: { readonly count: number; readonly used: number } | undefined;
  /** Biases of the attention's query, key or value, and norms inside of blocks (BitNet's sub-norms, norms of query and key). */
  readonly hasAttentionBias: boolean;
  readonly hasSubNorms: boolean;
  readonly tokenizer: { readonly model: string; readonly pre: string | undefined; readonly tokens: number; readonly hasChatTemplate: boolean } | undefined;
  /** One file of several: its number, from 0, how many there are, and how many of them are not beside it. The rest is of those that are. */
  readonly split: { readonly index: number; readonly count: number; readonly missing: number } | undefined;
}

type Tensor = Inspection['tensors'][number];

/** Weights per block and bytes per block of the KV cache's types: facts of ggml's formats. */
const kvBlocks: Readonly<Record<KvType, readonly [weights: number, bytes: number]>> = {
  f32: [1, 4], f16: [1, 2], bf16: [1, 2], q8_0: [32, 34], q5_1: [32, 24], q5_0: [32, 22], q4_1: [32, 20], q4_0: [32, 18], iq4_nl: [32, 18],
};

/** One layer in so many is full where the others have a window: facts of llama.cpp's architectures. */
const fullLayerEvery: Readonly<Record<string, number>> = { gemma2: 2, gemma3: 6, 'gpt-oss': 2 };

/** Reads a file's header, of a split file those of all parts, and describes it; well under a second for any size. Rejects as {@link inspect} does. */
export async function describe(path: string): Promise<Description> {
  return describeParts(await inspectParts(path));
}

/** @internal */
export function describeParts({ joined: file, split, missing }: Parts): Description {
  const value = (key: string) => file.metadata.find((entry) => entry.key === key)?.value;
  const text = (key: string): string | undefined => {
    const found = value(key);
    return typeof found === 'string' ? found : undefined;
  };
  const architecture = text('general.architecture') ?? 'unknown';
  const number = (key: string): number | undefined => {
    const found = value(`${architecture}.${key}`);
    return typeof found === 'number' ? found : undefined;
  };
  const names = new Set(file.tensors.map(({ name }) => name));
  const has = (pattern: RegExp) => file.tensors.some(({ name }) => pattern.test(name));
  const count = number('expert_count');
  const experts = count === undefined || count === 0 ? undefined : { count, used: number('expert_used_count') ?? count };
  const tied = !names.has('output.weight');

  const bytesByType: Record<string, { tensors: number; bytes: number }> = {};
  const bytesByRole: Partial<Record<Role, number>> = {};
  let parameters = 0;
  let bytesPerToken = 0;
  for (const tensor of file.tensors) {
    const role = roleOf(tensor.name);
    const sum = (bytesByType[tensor.type] ??= { tensors: 0, bytes: 0 });
    sum.tensors++;
    sum.bytes += tensor.bytes;
    bytesByRole[role] = (bytesByRole[role] ?? 0) + tensor.bytes;
    parameters += weightsOf(tensor);
    bytesPerToken += readPerToken(tensor, role, tied, experts);
  }

  const layers = number('block_count') ?? 0;
  const window = number('attention.sliding_window');
  const cached = Array.from({ length: layers }, (_, i) => i).filter((i) => !has(new RegExp(`^blk\\.${i}\\.ssm_`)) && has(new RegExp(`^blk\\.${i}\\.attn_(k|qkv|kv_a_mqa)\\.`)));
  const every = window === undefined ? 1 : (fullLayerEvery[architecture] ?? 1);
  const full = cached.filter((i) => every === 1 || (i + 1) % every === 0);
  const kvBytes = (which: readonly number[]) =>
    Object.fromEntries(kvTypes.map((type) => [type, which.reduce((sum, i) => sum + kvBytesOf(file, architecture, i, type), 0)])) as Record<KvType, number>;

  const tokens = file.metadata.find((entry) => entry.key === 'tokenizer.ggml.tokens')?.length;
  return {
    architecture,
    name: text('general.name'),
    parameters,
    bytesByType,
    bytesByRole,
    bytesPerToken,
    layers,
    attentionLayers: { full: full.length, windowed: cached.length - full.length, recurrent: layers - cached.length },
    window,
    kvBytesPerToken: kvBytes(full),
    windowedKvBytesPerToken: kvBytes(cached.filter((i) => !full.includes(i))),
    trainedContext: number('context_length'),
    experts,
    hasAttentionBias: has(/\.attn_(q|k|v|qkv)\.bias$/),
    hasSubNorms: has(/\.(attn_sub_norm|ffn_sub_norm|attn_q_norm|attn_k_norm)\.weight$/),
    tokenizer:
      tokens === undefined
        ? undefined
        : {
            model: text('tokenizer.ggml.model') ?? 'unknown',
            pre: text('tokenizer.ggml.pre'),
            tokens,
            hasChatTemplate: value('tokenizer.chat_template') !== undefined,
          },
    split: split && { ...split, missing: missing.length },
  };
}

const weightsOf = ({ shape }: Tensor) => shape.reduce((product, n) => product * n, 1);

function roleOf(name: string): Role {
  if (/^token_embd\./.test(name)) return 'embedding';
  if (/^output\./.test(name)) return 'head';
  if (/norm/.test(name)) return 'norms';
  if (/\.ffn_gate_inp/.test(name)) return 'router';
  if (/_exps\./.test(name)) return 'experts';
  if (/_shexp\./.test(name)) return 'sharedExperts';
  if (/\.ssm_/.test(name)) return 'recurrent';
  if (/\.attn_/.test(name)) return 'attention';
  return /\.ffn_/.test(name) ? 'feedForward' : 'other';
}

function readPerToken(tensor: Tensor, role: Role, tied: boolean, experts: Description['experts']): number {
  if (role === 'embedding' && !tied) return tensor.bytes / (tensor.shape[1] ?? 1);
  return role === 'experts' && experts !== undefined ? (tensor.bytes * experts.used) / experts.count : tensor.bytes;
}

// Head counts may differ by layer; then the metadata is an array.
function kvBytesOf(file: Inspection, architecture: string, layer: number, type: KvType): number {
  const read = (key: string): number | undefined => {
    const found = file.metadata.find((entry) => entry.key === `${architecture}.${key}`)?.value;
    const one: unknown = Array.isArray(found) ? found[layer] : found;
    return typeof one === 'number' ? one : undefined;
  };
  const heads = read('attention.head_count') ?? 0;
  const size = heads > 0 ? (read('embedding_length') ?? 0) / heads : 0;
  const widths = (read('attention.key_length') ?? size) + (read('attention.value_length') ?? size);
  const [weights, bytes] = kvBlocks[type];
  return ((read('attention.head_count_kv') ?? heads) * widths * bytes) / weights;
}
