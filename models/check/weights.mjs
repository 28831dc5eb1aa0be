// The weights of a ternary file as numbers, read with this project's own description of the formats.

import { openSync, readSync, closeSync } from 'node:fs';

import { inspect } from '../../dist/index.js';

const BLOCK = 256;

/** IEEE half precision to number. */
function half(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const magnitude = exponent === 0 ? fraction * 2 ** -24 : exponent === 31 ? (fraction ? NaN : Infinity) : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -magnitude : magnitude;
}

const decoders = {
  f16(bytes, n) {
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    return Float32Array.from({ length: n }, (_, i) => half(view.getUint16(2 * i, true)));
  },
  // 64 bytes of four 2-bit codes (weight + 1), 32 bytes cover 128 weights, then a half-precision scale.
  tq2_0(bytes, n) {
    const weights = new Float32Array(n);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    for (let block = 0; block < n / BLOCK; block++) {
      const at = block * 66;
      const scale = half(view.getUint16(at + 64, true));
      for (let i = 0; i < BLOCK; i++) {
        const code = (bytes[at + (i >> 7) * 32 + (i & 31)] >> (2 * ((i >> 5) & 3))) & 3;
        weights[block * BLOCK + i] = scale * (code - 1);
      }
    }
    return weights;
  },
  // 64 groups of four weights, 16 apart in runs of 64: slots of 4 bits, 64 signs, a half-precision scale. kernels/formats/stq1_0.h
  stq1_0(bytes, n) {
    const weights = new Float32Array(n);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    for (let block = 0; block < n / BLOCK; block++) {
      const at = block * 42;
      const scale = half(view.getUint16(at + 40, true));
      for (let group = 0; group < 64; group++) {
        const slot = (bytes[at + (group >> 1)] >> (4 * (group & 1))) & 15;
        const first = (bytes[at + 32 + (group >> 3)] >> (group & 7)) & 1 ? -1 : 1;
        const signs = [first, slot & 1 ? -first : first, slot & 2 ? -first : first];
        signs.splice(slot >> 2, 0, 0);
        signs.forEach((sign, lane) => (weights[block * BLOCK + (group >> 4) * 64 + (group & 15) + 16 * lane] = scale * sign));
      }
    }
    return weights;
  },
};

/** Name → weights, of the tensors whose type is `type`. */
export async function weightsOf(path, type) {
  const { tensors, dataOffset } = await inspect(path);
  const file = openSync(path, 'r');
  try {
    const found = new Map();
    for (const tensor of tensors.filter((each) => each.type.toLowerCase() === type)) {
      const bytes = new Uint8Array(tensor.bytes);
      readSync(file, bytes, 0, bytes.length, dataOffset + tensor.offset);
      found.set(tensor.name, decoders[type](bytes, tensor.shape.reduce((a, b) => a * b, 1)));
    }
    return found;
  } finally {
    closeSync(file);
  }
}

/** Largest |a - b| over the largest |b| of any tensor of `packed` and its float twin. */
export async function lossOf(packed, twin) {
  const floats = await weightsOf(twin, 'f16');
  let worst = 0;
  const tensors = await weightsOf(packed, 'tq2_0');
  if (tensors.size === 0) throw new Error(`${packed} has no TQ2_0 tensor`);
  for (const [name, weights] of tensors) {
    const reference = floats.get(name);
    let [difference, largest] = [0, 0];
    for (let i = 0; i < weights.length; i++) {
      difference = Math.max(difference, Math.abs(weights[i] - reference[i]));
      largest = Math.max(largest, Math.abs(reference[i]));
    }
    worst = Math.max(worst, difference / largest);
  }
  return worst;
}
