/**
 * Where a mixture's routed experts go.
 */
import type { NativeLoadOptions } from './native.js';

/**
 * Routed experts beside a GPU: all on it with the rest of their layers, or in the CPU's memory, where the CPU multiplies them: `'cpu'` all,
 * `cpuLayers` those of the first layers. `overrides` puts any tensors anywhere: from a pattern (ECMAScript, looked for in the names of the
 * GGUF) to a device, the first that is found decides. On the CPU alone they are checked, and nothing moves.
 */
export type Experts = 'gpu' | 'cpu' | { readonly cpuLayers: number } | { readonly overrides: Readonly<Record<string, string>> };

/** Device memory for experts in recent use, of those that lie in the CPU's memory: what is chosen and is there, the device multiplies. */
export interface ExpertCacheOptions {
  /** Of the GPU that has the rest of the layers; divided evenly between them, in slots of one expert. */
  readonly deviceBytes: number;
}

const expertNames = '\\.ffn_(up|down|gate|gate_up)_(ch|)exps';

export function tensorOverrides(experts: Experts | undefined): NativeLoadOptions['overrides'] {
  if (experts === undefined || experts === 'gpu') return [];
  if (experts === 'cpu') return [{ pattern: expertNames, device: 'cpu', required: false }];
  if ('overrides' in experts) return Object.entries(experts.overrides).map(([pattern, device]) => ({ pattern, device, required: true }));
  if (experts.cpuLayers === 0) return [];
  const layers = Array.from({ length: experts.cpuLayers }, (_, layer) => layer).join('|');
  return [{ pattern: `^blk\\.(${layers})${expertNames}`, device: 'cpu', required: false }]; // the first layers may have none
}

const longestPattern = 256;
const mostQuantifiers = 3;

/**
 * Why a pattern is not taken, undefined if it is: the engine's matcher goes back and forth, so that a repeated group with alternatives or
 * quantifiers in it, a back-reference or many quantifiers can keep it busy for ever.
 */
export function patternProblem(pattern: string): string | undefined {
  if (pattern.length > longestPattern) return `longer than ${longestPattern} characters`;
  const plain = pattern.replace(/\\[1-9]/g, () => '\u0001').replace(/\\./g, 'x').replace(/\[[^\]]*\]/g, 'x').replace(/\(\?[:=!]/g, '(');
  if (plain.includes('\u0001')) return 'it has a back-reference';
  if ((plain.match(/[*+{]/g)?.length ?? 0) > mostQuantifiers) return `it has more than ${mostQuantifiers} quantifiers`;
  const groups: boolean[] = []; // that are open: whether they can match the same text in several ways
  for (let i = 0; i < plain.length; i++) {
    let several = '*+?{|'.includes(plain[i]!);
    if (plain[i] === '(') groups.push(false);
    else if (plain[i] === ')') {
      several = groups.pop() ?? false;
      if (several && '*+{'.includes(plain[i + 1] ?? ' ')) return 'a group with alternatives or quantifiers is repeated';
    }
    if (several && groups.length > 0) groups[groups.length - 1] = true;
  }
  return undefined;
}
