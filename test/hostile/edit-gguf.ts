// A model file taken apart, so that one thing in it can be wrong.
import { readFileSync, writeFileSync } from 'node:fs';
import { entriesOf } from '../gguf/ternary-files.js';
import type { Entry } from '../gguf/ternary-files.js';

export interface Row {
  name: string;
  shape: bigint[];
  type: number;
  offset: bigint;
}
export interface Parts {
  entries: Entry[];
  rows: Row[];
  data: Buffer;
}

const u32 = (n: number) => Buffer.from(Uint32Array.of(n).buffer);
const u64 = (n: bigint | number) => Buffer.from(BigUint64Array.of(BigInt(n)).buffer);
const text = (s: string) => Buffer.concat([u64(Buffer.byteLength(s)), Buffer.from(s)]);

/** Values as they stand in a file, the number of their type first. */
export const value = {
  u16: (n: number) => Buffer.concat([u32(2), Buffer.from(Uint16Array.of(n).buffer)]),
  u32: (n: number) => Buffer.concat([u32(4), u32(n)]),
  i32: (n: number) => Buffer.concat([u32(5), Buffer.from(Int32Array.of(n).buffer)]),
  f32: (n: number) => Buffer.concat([u32(6), Buffer.from(Float32Array.of(n).buffer)]),
  bool: (on: boolean) => Buffer.concat([u32(7), Buffer.of(on ? 1 : 0)]),
  text: (s: string) => Buffer.concat([u32(8), text(s)]),
  texts: (list: readonly string[]) => Buffer.concat([u32(9), u32(8), u64(list.length), ...list.map(text)]),
  u32s: (list: readonly number[]) => Buffer.concat([u32(9), u32(4), u64(list.length), ...list.map(u32)]),
  i32s: (list: readonly number[]) => Buffer.concat([u32(9), u32(5), u64(list.length), Buffer.from(Int32Array.from(list).buffer)]),
  /** A list that says to have `count` texts, and has none. */
  claimed: (count: bigint) => Buffer.concat([u32(9), u32(8), u64(count)]),
};

export function takeApart(path: string): Parts {
  const file = readFileSync(path);
  const entries = entriesOf(path);
  let at = entries.reduce((sum, { key, bytes }) => sum + 8 + Buffer.byteLength(key) + bytes.length, 24);
  const long = () => file.readBigUInt64LE((at += 8) - 8);
  const word = () => file.readUInt32LE((at += 4) - 4);
  const rows = Array.from({ length: Number(file.readBigUInt64LE(8)) }, () => {
    const length = Number(long());
    const name = file.toString('utf8', at, (at += length));
    return { name, shape: Array.from({ length: word() }, long), type: word(), offset: long() };
  });
  return { entries, rows, data: file.subarray(Math.ceil(at / 32) * 32) };
}

/** The header alone, padded. `counts` in place of the true ones. */
export function headerOf({ entries, rows }: Parts, counts: { tensors?: bigint; entries?: bigint } = {}): Buffer {
  const head = Buffer.concat([
    Buffer.from('GGUF'), u32(3), u64(counts.tensors ?? rows.length), u64(counts.entries ?? entries.length),
    ...entries.flatMap(({ key, bytes }) => [text(key), bytes]),
    ...rows.flatMap(({ name, shape, type, offset }) => [text(name), u32(shape.length), ...shape.map(u64), u32(type), u64(offset)]),
  ]);
  return Buffer.concat([head, Buffer.alloc((32 - (head.length % 32)) % 32)]);
}

export function putTogether(path: string, parts: Parts, counts: { tensors?: bigint; entries?: bigint } = {}): void {
  writeFileSync(path, Buffer.concat([headerOf(parts, counts), parts.data]));
}

/** With other values under these keys; null takes one away. */
export function withMetadata(parts: Parts, changes: Readonly<Record<string, Buffer | null>>): Parts {
  const kept = parts.entries.filter(({ key }) => !(key in changes));
  const added = Object.entries(changes).flatMap(([key, bytes]) => (bytes === null ? [] : [{ key, bytes }]));
  return { ...parts, entries: [...kept, ...added] };
}
