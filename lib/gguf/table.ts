/**
 * The tensor table of a GGUF file as it stands in the file: for files whose type numbers llama.cpp refuses.
 */
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';

/** A row of the table, with the bytes that lie between its tensor and the next one. */
export interface RawTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** The number in the file; what it means depends on who wrote it. */
  readonly typeId: number;
  /** Alignment's padding included. */
  readonly extent: number;
  readonly alignment: number;
}

const most = { strings: 1 << 24, entries: 1 << 20, tensors: 1 << 20, elements: 1 << 28 };
/** Bytes of the metadata's scalar types, by their numbers; 8 is a string, 9 an array. */
const scalarBytes: Readonly<Record<number, number>> = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };

/** The table, or undefined where the file is no GGUF of version 2 or 3, or is damaged. Rejects only when it cannot be read. */
export async function rawTensors(path: string): Promise<RawTensor[] | undefined> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    return await readTable(new Reader(file, size), size);
  } catch (error) {
    if (error instanceof Damaged) return undefined;
    throw error;
  } finally {
    await file.close();
  }
}

class Damaged extends Error {}

async function readTable(reader: Reader, size: number): Promise<RawTensor[]> {
  if ((await reader.u32()) !== 0x46554747) throw new Damaged(); // "GGUF"
  const version = await reader.u32();
  if (version !== 2 && version !== 3) throw new Damaged();
  const tensorCount = await reader.count(most.tensors);
  const entryCount = await reader.count(most.entries);
  let alignment = 32;
  for (let i = 0; i < entryCount; i++) {
    const key = await reader.text();
    const type = await reader.u32();
    if (key === 'general.alignment' && type === 4) alignment = await reader.u32();
    else await reader.skipValue(type);
  }
  if (alignment < 1 || alignment > 1 << 20) throw new Damaged();
  const rows: { name: string; shape: number[]; typeId: number; offset: number }[] = [];
  for (let i = 0; i < tensorCount; i++) {
    const name = await reader.text();
    const dimensions = await reader.u32();
    if (dimensions > 4) throw new Damaged();
    const shape: number[] = [];
    for (let d = 0; d < dimensions; d++) shape.push(await reader.count(Number.MAX_SAFE_INTEGER));
    rows.push({ name, shape, typeId: await reader.u32(), offset: await reader.count(Number.MAX_SAFE_INTEGER) });
  }
  const data = Math.ceil(reader.position / alignment) * alignment;
  const offsets = rows.map(({ offset }) => offset).sort((a, b) => a - b);
  const next = new Map(offsets.map((offset, i) => [offset, offsets[i + 1] ?? size - data]));
  return rows.map(({ name, shape, typeId, offset }) => ({ name, shape, typeId, extent: (next.get(offset) ?? offset) - offset, alignment }));
}

/** Reads forward through a window, so that headers of many megabytes cost few system calls. */
class Reader {
  readonly #file: FileHandle;
  readonly #size: number;
  #window = Buffer.alloc(0);
  #start = 0;
  position = 0;

  constructor(file: FileHandle, size: number) {
    this.#file = file;
    this.#size = size;
  }

  async #take(bytes: number): Promise<Buffer> {
    if (this.position + bytes > this.#size) throw new Damaged();
    if (this.position < this.#start || this.position + bytes > this.#start + this.#window.length) {
      const window = Buffer.alloc(Math.min(Math.max(bytes, 1 << 16), this.#size - this.position));
      const { bytesRead } = await this.#file.read(window, 0, window.length, this.position);
      this.#window = window.subarray(0, bytesRead);
      this.#start = this.position;
      if (bytesRead < bytes) throw new Damaged();
    }
    const from = this.position - this.#start;
    this.position += bytes;
    return this.#window.subarray(from, from + bytes);
  }

  async u32(): Promise<number> {
    return (await this.#take(4)).readUInt32LE();
  }

  /** A 64-bit number of at most `limit`. */
  async count(limit: number): Promise<number> {
    const value = (await this.#take(8)).readBigUInt64LE();
    if (value > BigInt(limit)) throw new Damaged();
    return Number(value);
  }

  async text(): Promise<string> {
    return (await this.#take(await this.count(most.strings))).toString();
  }

  async skipValue(type: number): Promise<void> {
    if (type === 8) {
      this.#skip(await this.count(most.strings));
    } else if (type === 9) {
      const item = await this.u32();
      const length = await this.count(most.elements);
      const bytes = scalarBytes[item];
      if (bytes !== undefined) this.#skip(length * bytes);
      else if (item === 8) for (let i = 0; i < length; i++) this.#skip(await this.count(most.strings));
      else throw new Damaged(); // arrays of arrays: nobody writes them
    } else {
      const bytes = scalarBytes[type];
      if (bytes === undefined) throw new Damaged();
      this.#skip(bytes);
    }
  }

  #skip(bytes: number): void {
    this.position += bytes;
    if (this.position > this.#size) throw new Damaged();
  }
}
