/**
 * Shapes of matrices to measure kernels with.
 */
import { presets } from '../gguf/presets.js';
import type { PresetName } from '../gguf/presets.js';
import type { Shape } from '../gguf/shape.js';
import { tensorsOf } from '../gguf/tensors.js';
import { nearest, refuse } from '../validate.js';

/** A matrix, or a mixture's experts of one shape. */
export interface MatrixShape {
  /** Results per token. */
  readonly rows: number;
  /** Weights of a row. */
  readonly columns: number;
  /** Matrices of which each token takes `used`; both or neither. */
  readonly experts?: number | undefined;
  readonly used?: number | undefined;
}

/** `6912x2560`, or `768x2048x128/8`: of 128 experts, 8 work on a token. */
export function shapeName({ rows, columns, experts, used }: MatrixShape): string {
  return `${rows}x${columns}${experts === undefined ? '' : `x${experts}/${used}`}`;
}

/** The inverse of {@link shapeName}, or undefined. */
export function readShape(text: string): MatrixShape | undefined {
  const match = /^(\d+)x(\d+)(?:x(\d+)\/(\d+))?$/.exec(text.trim());
  if (match === null) return undefined;
  const [rows, columns, experts, used] = match.slice(1).map(Number) as [number, number, number, number];
  return match[3] === undefined ? { rows, columns } : { rows, columns, experts, used };
}

/**
 * The different matrices of a model's layers, the largest first. What is not quantised (routers, convolutions) and the output
 * head, which usually has a type of its own, are left out.
 *
 * @throws ERR_INVALID_ARG for a name that is no preset's.
 */
export function presetShapes(name: PresetName): MatrixShape[] {
  if (!Object.hasOwn(presets, name)) {
    const near = nearest(name, Object.keys(presets));
    refuse('presetShapes', 'name', `no preset '${name}'; ${near === undefined ? `there are ${Object.keys(presets).join(', ')}` : `did you mean '${near}'?`}`);
  }
  const { types } = presets[name];
  const model: Shape = presets[name].shape;
  const layers = Math.min(model.layers, 4); // kinds of layers that alternate do so within four
  const shapes = new Map<string, MatrixShape>();
  for (const { name: tensor, type, shape } of tensorsOf({ ...model, layers }, types)) {
    const [columns = 0, rows = 0, experts] = shape;
    if (!tensor.startsWith('blk.') || rows === 0 || type === 'f32') continue;
    const matrix = experts === undefined ? { rows, columns } : { rows, columns, experts, used: model.experts?.used ?? 1 };
    shapes.set(shapeName(matrix), matrix);
  }
  const size = ({ rows, columns, used = 1 }: MatrixShape): number => rows * columns * used;
  return [...shapes.values()].sort((a, b) => size(b) - size(a));
}
