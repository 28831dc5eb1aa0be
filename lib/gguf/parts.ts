/**
 * Models that are split over several files.
 */
import { existsSync } from 'node:fs';
import { inspect } from '../inspect.js';
import type { Inspection } from '../inspect.js';

/** A file, or all parts of one that is split. */
export interface Parts {
  /** The header; of a split file the first part's metadata, the tensors of all parts that are there, and their bytes together. */
  readonly joined: Inspection;
  /** Each part that is there, in order, with its own header. */
  readonly parts: readonly { readonly path: string; readonly header: Inspection }[];
  /** Parts that are not beside it under their own names, and what the first of them would be called. */
  readonly missing: number;
  readonly firstMissing?: string | undefined;
  /** Which part `path` is, from 0, and of how many. */
  readonly split: { readonly index: number; readonly count: number } | undefined;
}

const mostParts = 65_535; // split.count is a 16-bit number

/** Reads the headers of a file and, if it is one part of several, of those beside it. Rejects as {@link inspect} does. */
export async function inspectParts(path: string): Promise<Parts> {
  const header = await inspect(path);
  const count = number(header, 'split.count') ?? 1;
  if (!Number.isInteger(count) || count <= 1 || count > mostParts) return { joined: header, parts: [{ path, header }], missing: 0, split: undefined };
  const index = number(header, 'split.no') ?? 0;
  const names = partNames(path, index, count);
  // Under another name nothing says where the others are.
  const there = names?.filter((name) => existsSync(name)) ?? [path];
  const parts = await Promise.all(there.map(async (name) => ({ path: name, header: name === path ? header : await inspect(name) })));
  const first = parts.find((part) => number(part.header, 'split.no') === 0)?.header ?? header;
  return {
    joined: {
      ...first,
      fileBytes: parts.reduce((sum, part) => sum + part.header.fileBytes, 0),
      tensors: parts.flatMap((part) => part.header.tensors),
    },
    parts,
    missing: count - parts.length,
    firstMissing: names?.find((name) => !there.includes(name)),
    split: { index, count },
  };
}

function number(header: Inspection, key: string): number | undefined {
  const value = header.metadata.find((entry) => entry.key === key)?.value;
  return typeof value === 'number' ? value : undefined;
}

/** name-00001-of-00003.gguf …, as llama.cpp's split tool names parts; undefined where `path` is not named like that. */
function partNames(path: string, index: number, count: number): string[] | undefined {
  const padded = (n: number) => String(n).padStart(5, '0');
  const end = (i: number) => `-${padded(i + 1)}-of-${padded(count)}.gguf`;
  if (!path.endsWith(end(index))) return undefined;
  const stem = path.slice(0, -end(index).length);
  return Array.from({ length: count }, (_, i) => stem + end(i));
}
