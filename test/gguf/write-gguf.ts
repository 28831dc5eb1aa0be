// A GGUF from its parts, also such as no program would write.
import { truncateSync, writeFileSync } from 'node:fs';

export interface RawTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly type: number;
  readonly bytes: number;
  /** Zeros if there is none. */
  readonly data?: Uint8Array;
}
type Value = number | { readonly f32: number } | { readonly u16: number } | { readonly i32: number } | string | readonly string[] | Uint32Array;

const u32 = (n: number) => Buffer.from(Uint32Array.of(n).buffer);
const u64 = (n: number) => Buffer.from(BigUint64Array.of(BigInt(n)).buffer);
const text = (s: string) => Buffer.concat([u64(Buffer.byteLength(s)), Buffer.from(s)]);

// Numbers are u32 (type 4) unless they say otherwise, texts type 8, lists an array (type 9) of either.
function entry(key: string, value: Value): Buffer {
  if (typeof value === 'number') return Buffer.concat([text(key), u32(4), u32(value)]);
  if (typeof value === 'string') return Buffer.concat([text(key), u32(8), text(value)]);
  if (typeof value === 'object' && 'f32' in value) return Buffer.concat([text(key), u32(6), Buffer.from(Float32Array.of(value.f32).buffer)]);
  if (typeof value === 'object' && 'u16' in value) return Buffer.concat([text(key), u32(2), Buffer.from(Uint16Array.of(value.u16).buffer)]);
  if (typeof value === 'object' && 'i32' in value) return Buffer.concat([text(key), u32(5), Buffer.from(Int32Array.of(value.i32).buffer)]);
  if (value instanceof Uint32Array) return Buffer.concat([text(key), u32(9), u32(4), u64(value.length), ...Array.from(value, u32)]);
  return Buffer.concat([text(key), u32(9), u32(8), u64(value.length), ...value.map(text)]);
}

/** With `holes`, a sparse file as long as the first tensor needs, whatever the table says. */
export function writeGguf(path: string, metadata: Readonly<Record<string, Value>>, tensors: readonly RawTensor[], { holes = false } = {}): void {
  const alignment = metadata['general.alignment'] ?? 32;
  const align = (n: number) => Math.ceil(n / Number(alignment)) * Number(alignment);
  let offset = 0;
  const table = tensors.map(({ name, shape, type, bytes }) => {
    const row = Buffer.concat([text(name), u32(shape.length), ...shape.map(u64), u32(type), u64(offset)]);
    offset += align(bytes);
    return row;
  });
  const head = Buffer.concat([
    Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(Object.keys(metadata).length),
    ...Object.entries(metadata).map(([key, value]) => entry(key, value)), ...table,
  ]);
  if (holes) {
    writeFileSync(path, head);
    truncateSync(path, align(head.length) + align(tensors[0]?.bytes ?? 0));
    return;
  }
  const weights = tensors.flatMap(({ bytes, data = Buffer.alloc(bytes) }) => [data, Buffer.alloc(align(bytes) - bytes)]);
  writeFileSync(path, Buffer.concat([head, Buffer.alloc(align(head.length) - head.length), ...weights]));
}
