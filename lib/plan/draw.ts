/**
 * A plan as text for a terminal.
 */
import type { Plan } from './plan.js';
import type { PlannedMemory } from './memory.js';

const width = 48;

/** The parts of a device's memory, in the order of the bars. */
export const parts = [
  ['weightBytes', 'weights', '█'],
  ['kvBytes', 'KV cache', '▓'],
  ['stateBytes', 'state', '▚'],
  ['computeBytes', 'compute', '▒'],
  ['expertCacheBytes', 'experts in recent use', '▞'],
  ['cacheBytes', 'cache', '░'],
] as const;

/** "1.5 GiB", "205 MiB". */
export function bytesText(bytes: number): string {
  const [unit, name] = bytes >= 2 ** 30 ? [2 ** 30, 'GiB'] : bytes >= 2 ** 20 ? [2 ** 20, 'MiB'] : [2 ** 10, 'KiB'];
  const value = bytes / unit;
  return `${value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${name}`;
}

/** A bar of the device's whole memory: what the plan takes, what others have, what is free. */
function bar(memory: PlannedMemory): string {
  const scale = Math.max(memory.totalBytes, memory.bytes, 1);
  const cells = (bytes: number) => (bytes === 0 ? 0 : Math.max(1, Math.round((bytes / scale) * width)));
  const own = parts.map(([key, , sign]) => sign.repeat(cells(memory[key]))).join('').slice(0, width);
  const others = '·'.repeat(Math.min(width - own.length, cells(Math.max(0, memory.totalBytes - memory.freeBytes))));
  return `[${(own + others).padEnd(width)}]`;
}

export function drawPlan(plan: Plan): string {
  const { model, kv, context, sequences, threads, ubatch } = plan;
  const lines = [
    `${model.name}: ${model.architecture}, ${model.quantization}, ${bytesText(model.fileBytes)}`,
    `context ${context} · ${sequences} sequence${sequences === 1 ? '' : 's'} · KV cache ${kv.k === kv.v ? kv.k : `${kv.k}/${kv.v}`} · ubatch ${ubatch} · ${threads} threads · on ${plan.devices.join(', ')}`,
    '',
  ];
  for (const memory of plan.memory) {
    const shares = memory.pool === memory.device ? '' : `, of ${memory.pool}'s`;
    lines.push(`${memory.device.padEnd(9)} ${bar(memory)} ${bytesText(memory.bytes)} of ${bytesText(memory.freeBytes)} free${shares}, ${bytesText(memory.totalBytes)} in all`);
    lines.push(`${''.padEnd(10)}${parts.flatMap(([key, name, sign]) => (memory[key] > 0 ? [`${sign} ${name} ${bytesText(memory[key])}`] : [])).join('  ') || 'nothing'}`);
  }
  lines.push('', plan.fits ? 'fits' : 'does not fit', ...plan.reasons.map(({ message }) => `  ${message}`));
  if (plan.expectedLoadMs !== undefined) lines.push(`  loading it took ${(plan.expectedLoadMs / 1000).toFixed(1)} s last time`);
  return lines.join('\n');
}
