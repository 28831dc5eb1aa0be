// Ternary models in the formats of other programs, written from the formats' descriptions.
import { readFileSync, writeFileSync } from 'node:fs';
import { readTensors } from './read-gguf.js';

export interface Entry {
  readonly key: string;
  /** Type and value as they stand in the file. */
  readonly bytes: Buffer;
}
export interface Tensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly type: number;
  readonly data: Buffer;
}

const u32 = (n: number) => Buffer.from(Uint32Array.of(n).buffer);
const u64 = (n: number | bigint) => Buffer.from(BigUint64Array.of(BigInt(n)).buffer);
const text = (s: string) => Buffer.concat([u64(Buffer.byteLength(s)), Buffer.from(s)]);
const f32s = (values: Iterable<number>) => Buffer.from(Float32Array.from(values).buffer);
const scalar = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];

/** The metadata of a GGUF, byte for byte. */
export function entriesOf(path: string): Entry[] {
  const file = readFileSync(path);
  let at = 24;
  const number = () => Number(file.readBigUInt64LE((at += 8) - 8));
  const skipText = () => {
    const length = number(); // moves `at` itself
    at += length;
  };
  return Array.from({ length: Number(file.readBigUInt64LE(16)) }, () => {
    const length = number();
    const key = file.toString('utf8', at, at + length);
    const start = (at += length);
    const type = file.readUInt32LE((at += 4) - 4);
    if (type === 8) skipText();
    else if (type === 9) {
      const item = file.readUInt32LE((at += 4) - 4);
      const count = number();
      for (let i = 0; i < count; i++) if (item === 8) skipText();
      else at += scalar[item]!;
    } else at += scalar[type]!;
    return { key, bytes: file.subarray(start, at) };
  });
}

export const entry = { text: (key: string, value: string): Entry => ({ key, bytes: Buffer.concat([u32(8), text(value)]) }) };

function writeFile(path: string, entries: readonly Entry[], tensors: readonly Tensor[]): void {
  const pad = (data: Buffer) => Buffer.concat([data, Buffer.alloc((32 - (data.length % 32)) % 32)]);
  let offset = 0;
  const table = tensors.map(({ name, shape, type, data }) => {
    const row = Buffer.concat([text(name), u32(shape.length), ...shape.map(u64), u32(type), u64(offset)]);
    offset += pad(data).length;
    return row;
  });
  const head = Buffer.concat([Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(entries.length), ...entries.flatMap(({ key, bytes }) => [text(key), bytes]), ...table]);
  writeFileSync(path, Buffer.concat([pad(head), ...tensors.map(({ data }) => pad(data))]));
}

/** -1, 0 and 1 from blocks of TQ2_0, and the half-precision scale of each block as a number. */
export function fromTq2(data: Buffer): { weights: Int8Array; scales: number[] } {
  const blocks = data.length / 66;
  const weights = new Int8Array(blocks * 256);
  for (let i = 0; i < weights.length; i++) {
    const [block, inside] = [Math.floor(i / 256), i % 256];
    const byte = data[block * 66 + Math.floor(inside / 128) * 32 + (inside % 32)]!;
    weights[i] = ((byte >> (2 * (Math.floor(inside / 32) % 4))) & 3) - 1;
  }
  return { weights, scales: Array.from({ length: blocks }, (_, b) => half(data.readUInt16LE(b * 66 + 64))) };
}

/** The same from blocks of TQ1_0: a digit is what overflows the byte when it is multiplied by 3, highest digit first. */
export function fromTq1(data: Buffer): { weights: Int8Array; scales: number[] } {
  const blocks = data.length / 54;
  const weights = new Int8Array(blocks * 256);
  const groups = [[0, 32, 5, 0], [32, 16, 5, 160], [48, 4, 4, 240]] as const; // bytes from, how many, digits in each, weights from
  for (let b = 0; b < blocks; b++) {
    for (const [from, count, digits, first] of groups) {
      for (let byte = 0; byte < count; byte++) {
        let rest = data[b * 54 + from + byte]!;
        for (let digit = 0; digit < digits; digit++) {
          weights[b * 256 + first + digit * count + byte] = ((rest * 3) >> 8) - 1;
          rest = (rest * 3) & 255;
        }
      }
    }
  }
  return { weights, scales: Array.from({ length: blocks }, (_, b) => half(data.readUInt16LE(b * 54 + 52))) };
}

export function half(bits: number): number {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  return sign * (exponent === 0 ? fraction * 2 ** -24 : exponent === 31 ? Infinity : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

/** A tensor of Microsoft's I2_S on x86: codes, one scale, padding. */
function toI2s(weights: Int8Array, scale: number): Buffer {
  const data = Buffer.alloc(weights.length / 4 + 32);
  weights.forEach((weight, i) => {
    const [block, inside] = [Math.floor(i / 128), i % 128];
    data[block * 32 + (inside % 32)]! |= (weight + 1) << (6 - 2 * Math.floor(inside / 32));
  });
  data.writeFloatLE(scale, weights.length / 4);
  return data;
}

const numbers: Readonly<Record<string, number>> = { f32: 0, f16: 1, q8_0: 8, tq2_0: 35 };

/** The GGUF `source` of TQ2_0, one scale in each tensor, in I2_S. `change` may replace tensors and metadata. */
export async function writeI2s(path: string, source: string, change: { tensor?: (tensor: Tensor) => Tensor; entries?: (entries: Entry[]) => Entry[] } = {}): Promise<void> {
  const tensors = [...(await readTensors(source)).values()].map(({ name, shape: sizes, type, data }): Tensor => {
    const { weights, scales } = type === 'tq2_0' ? fromTq2(data) : { weights: new Int8Array(), scales: [] };
    const tensor = type === 'tq2_0' ? { name, shape: sizes, type: 36, data: toI2s(weights, scales[0]!) } : { name, shape: sizes, type: numbers[type]!, data };
    return change.tensor?.(tensor) ?? tensor;
  });
  writeFile(path, (change.entries ?? ((same) => same))(entriesOf(source)), tensors);
}

export interface Sizes {
  readonly hidden: number;
  readonly intermediate: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly vocabulary: number;
}
export interface Matrix {
  readonly weights: Int8Array;
  /** One per row. */
  readonly scales: readonly number[];
}

export const h1bNames = ['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down'];

/** An .h1b file. `floatsOf` and `matrix` are asked by GGUF names without `.weight`. */
export function toH1b(
  version: number, sizes: Sizes, floatsOf: (name: string) => Float32Array, matrix: (name: string) => Matrix,
  { flags = 0, tied = 1, tail = Buffer.alloc(0) } = {},
): Buffer {
  const { hidden, intermediate, layers, heads, kvHeads, vocabulary } = sizes;
  const numbers = Int32Array.of(version, hidden, intermediate, layers, heads, kvHeads, vocabulary, 512, tied, flags);
  const parts: Buffer[] = [Buffer.from('H1B\0'), Buffer.from(numbers.buffer), version >= 2 ? f32s([5e5, 1e-5]) : Buffer.alloc(0), f32s(floatsOf('token_embd')), f32s(floatsOf('output_norm'))];
  for (let i = 0; i < layers; i++) {
    const floats = (name: string) => f32s(floatsOf(`blk.${i}.${name}`));
    parts.push(floats('attn_norm'), floats('ffn_norm'), floats('attn_sub_norm'), f32s(new Float32Array(5 * hidden).fill(7)), floats('ffn_sub_norm'));
    for (const name of h1bNames) {
      const { weights, scales } = matrix(`blk.${i}.${name}`);
      const width = weights.length / scales.length;
      parts.push(...scales.map((_, row) => packRow(version, weights.subarray(row * width, (row + 1) * width))), f32s(scales));
    }
  }
  return Buffer.concat([...parts, tail]);
}

function packRow(version: number, row: Int8Array): Buffer {
  if (version === 3) {
    const data = Buffer.alloc((row.length * 5) / 32);
    for (let g = 0; g < row.length / 4; g++) {
      const group = [...row.subarray(4 * g, 4 * g + 4)];
      const zero = group.indexOf(0);
      const signs = group.filter((_, lane) => lane !== zero);
      const code = (zero << 3) | signs.reduce((bits, sign, i) => bits | (sign > 0 ? 1 << i : 0), 0);
      for (let bit = 0; bit < 5; bit++) if (code & (1 << bit)) data[(5 * g + bit) >> 3]! |= 1 << ((5 * g + bit) & 7);
    }
    return data;
  }
  if (version === 4) {
    const data = Buffer.alloc((Math.ceil(row.length / 20) * 20) / 5, 121); // filled up with zeros
    for (let i = 0; i < row.length; i += 5) data[i / 5] = [1, 3, 9, 27, 81].reduce((sum, power, j) => sum + power * ((row[i + j] ?? 0) + 1), 0);
    return data;
  }
  const data = Buffer.alloc(Math.ceil(row.length / 4));
  row.forEach((weight, i) => (data[i >> 2]! |= (weight + 1) << (2 * (i & 3))));
  return data;
}
