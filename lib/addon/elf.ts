/**
 * What a file's header says before the system's loader maps it: it ends the process on a file that was cut off, and is
 * short of words about one for another processor.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

// Of ELF files with 64 bits, little end first; of others nothing is said.
const machines: Readonly<Record<number, string>> = { 62: 'x64', 183: 'arm64', 243: 'riscv64', 258: 'loong64' };

/** Why the file cannot be an addon for Linux on `arch`; undefined if it can. */
export function elfProblem(path: string, arch: string): string | undefined {
  const header = Buffer.alloc(64);
  const file = openSync(path, 'r');
  try {
    const { size } = fstatSync(file);
    const read = readSync(file, header, 0, header.length, 0);
    if (read < header.length || header.readUInt32BE(0) !== 0x7f454c46) return 'it is no addon for Linux (no ELF file)';
    if (!Object.values(machines).includes(arch)) return undefined;
    const [known, machine] = [header[4] === 2 && header[5] === 1, header.readUInt16LE(18)];
    if (!known || machines[machine] !== arch) return `it is for ${known ? (machines[machine] ?? `machine ${machine}`) : 'another kind of processor'}, and this is ${arch}`;
    // The table of sections is the last thing that a linker writes.
    const end = Number(header.readBigUInt64LE(40)) + header.readUInt16LE(58) * header.readUInt16LE(60);
    return size < end ? `it is cut off: ${size} bytes of ${end}` : undefined;
  } finally {
    closeSync(file);
  }
}
