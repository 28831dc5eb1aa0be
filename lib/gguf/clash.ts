/**
 * Type numbers that more than one project has given to more than one format.
 */
import type { RawTensor } from './table.js';

/** A format that files use under a number which llama.cpp now gives to another, or to none. */
interface Format {
  readonly name: string;
  readonly weights: number;
  readonly bytes: number;
}

// Block sizes are what tells them apart: the numbers do not.
const formats: readonly Format[] = [
  { name: "Q2_0 with blocks of 128 (PrismML's llama.cpp)", weights: 128, bytes: 34 },
  { name: "Q2_0C (of Tencent's llama.cpp)", weights: 512, bytes: 130 },
];
/** @internal */
export const i2sType = 36;
// Four weights in a byte, and behind the tensor's last one its scale, padded.
const i2s: Format = { name: "I2_S (of Microsoft's BitNet)", weights: 128, bytes: 32 };
const i2sScale = 32;
/** What llama.cpp itself means by a number. */
const current: Readonly<Record<number, Format>> = {
  40: { name: 'NVFP4', weights: 64, bytes: 36 },
  42: { name: 'Q2_0', weights: 64, bytes: 18 },
};
const disputed = [i2sType, 40, 42, 43];

/** The format of the first tensor whose type number says something else here than in the program that wrote the file. */
export function clashingType(tensors: readonly RawTensor[]): { readonly tensor: string; readonly typeId: number; readonly format: string } | undefined {
  for (const tensor of tensors) {
    if (!disputed.includes(tensor.typeId)) continue;
    const { name, typeId } = tensor;
    const meant = current[typeId];
    if (meant !== undefined && fits(tensor, meant)) continue;
    const format = typeId === i2sType ? [i2s].find((each) => fits(tensor, each, i2sScale)) : formats.find((each) => fits(tensor, each));
    if (format !== undefined) return { tensor: name, typeId, format: format.name };
  }
  return undefined;
}

function fits({ shape, extent, alignment }: RawTensor, { weights, bytes }: Format, more = 0): boolean {
  const total = shape.reduce((product, n) => product * n, 1);
  const size = (total / weights) * bytes + more;
  return total % weights === 0 && extent >= size && extent < size + alignment;
}
