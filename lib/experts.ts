/**
 * Where a mixture's routed experts go.
 */
import type { NativeLoadOptions } from './native.js';

/**
 * Routed experts beside a GPU: all on it with the rest of their layers, or in the CPU's memory, where the CPU multiplies them: `'cpu'` all,
 * `cpuLayers` those of the first layers. `overrides` puts any tensors anywhere: from a pattern (ECMAScript, looked for in the names of the
 * GGUF) to a device, the first that is found decides.
 */
export type Experts = 'gpu' | 'cpu' | { readonly cpuLayers: number } | { readonly overrides: Readonly<Record<string, string>> };

const expertNames = '\\.ffn_(up|down|gate|gate_up)_(ch|)exps';

export function tensorOverrides(experts: Experts | undefined): NativeLoadOptions['overrides'] {
  if (experts === undefined || experts === 'gpu') return [];
  if (experts === 'cpu') return [{ pattern: expertNames, device: 'cpu' }];
  if ('overrides' in experts) return Object.entries(experts.overrides).map(([pattern, device]) => ({ pattern, device }));
  if (experts.cpuLayers === 0) return [];
  return [{ pattern: `^blk\\.(${Array.from({ length: experts.cpuLayers }, (_, layer) => layer).join('|')})${expertNames}`, device: 'cpu' }];
}
