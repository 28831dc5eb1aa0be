/** ternion/gguf: GGUF files as things to make and to look into. */
export { inspect } from '../inspect.js';
export type { Inspection } from '../inspect.js';
export { describe } from './describe.js';
export type { Description, Role } from './describe.js';
export { importModel } from './import.js';
export type { Imported, ImportOptions } from './import.js';
export { lint } from './lint.js';
export type { Finding } from './lint.js';
export { presets } from './presets.js';
export type { Preset, PresetName } from './presets.js';
export { quantize, quantizeTypes } from './quantize.js';
export type { Quantization, QuantizedTensor, QuantizeOptions, QuantizeType } from './quantize.js';
export { tensorTypes } from './shape.js';
export type { Architecture, Shape, TensorType, Types } from './shape.js';
export { verify } from './verify.js';
export type { TensorHealth, Verification, VerifyOptions } from './verify.js';
export { synthesize } from './synth.js';
export type { SynthOptions } from './synth.js';
