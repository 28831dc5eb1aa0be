// Tensors of a GGUF as they stand in the file.
import { closeSync, openSync, readSync } from 'node:fs';
import { inspect } from '../../dist/gguf/index.js';

export interface FileTensor {
  readonly name: string;
  readonly type: string;
  readonly shape: readonly number[];
  readonly data: Buffer;
}

export async function readTensors(path: string): Promise<ReadonlyMap<string, FileTensor>> {
  const { dataOffset, tensors } = await inspect(path);
  const file = openSync(path, 'r');
  const read = tensors.map(({ name, type, shape, bytes, offset }) => {
    const data = Buffer.alloc(bytes);
    readSync(file, data, 0, bytes, dataOffset + offset);
    return [name, { name, type, shape, data }] as const;
  });
  closeSync(file);
  return new Map(read);
}

export function floats({ data }: Pick<FileTensor, 'data'>): Float32Array {
  return new Float32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength));
}

export async function metadata(path: string): Promise<Readonly<Record<string, unknown>>> {
  return Object.fromEntries((await inspect(path)).metadata.map(({ key, value }) => [key, value]));
}
