/**
 * What a GGUF file's header says about running it: bytes by type and role, bytes read per token, KV cache per token.
 */
import type { Inspection } from '../inspect.js';
import type { KvType } from '../kv.js';
import { cachedLayers, kvBytes } from './layers.js';
import { inspectParts } from './parts.js';
import type { Parts } from './parts.js';

/** What a tensor is for. */
export type Role = 'embedding' | 'head' | 'attention' | 'feedForward' | 'experts' | 'sharedExperts' | 'router' | 'recurrent' | 'norms' | 'other';

/** Facts from the header alone. */
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
  const cached = cachedLayers(file, architecture, layers);

  const tokens = file.metadata.find((entry) => entry.key === 'tokenizer.ggml.tokens')?.length;
  return {
    architecture,
    name: text('general.name'),
    parameters,
    bytesByType,
    bytesByRole,
    bytesPerToken,
    layers,
    attentionLayers: { full: cached.full.length, windowed: cached.windowed.length, recurrent: cached.recurrent },
    window,
    kvBytesPerToken: kvBytes(file, architecture, cached.full),
    windowedKvBytesPerToken: kvBytes(file, architecture, cached.windowed),
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
    split: split && { ...split, missing },
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
