/**
 * A plan as text for a terminal.
 */
import type { BestFile } from './best.js';
import type { Plan } from './plan.js';
import type { PlannedMemory } from './memory.js';
import { speedText } from './speed.js';
import type { ExpertSweep } from './sweep.js';

const width = 48;
const curveWidth = 40;

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
  if (plan.speed !== undefined) lines.push('', speedText(plan.speed));
  lines.push('', plan.fits ? 'fits' : 'does not fit', ...plan.reasons.map(({ message }) => `  ${message}`));
  if (plan.expectedLoadMs !== undefined) lines.push(`  loading it took ${plan.expectedLoadMs < 1000 ? `${Math.round(plan.expectedLoadMs)} ms` : `${(plan.expectedLoadMs / 1000).toFixed(1)} s`} last time`);
  return lines.join('\n');
}

/** A sweep as a table and a curve of the speed of decoding. */
export function drawSweep({ model, devices, context, rows, chosen }: ExpertSweep): string {
  const most = Math.max(...rows.map(({ speed }) => speed?.decodeTokensPerSecond ?? 0));
  const used = [...new Set(rows.flatMap(({ memory }) => memory.map(({ device }) => device)))];
  const number = (value: number | undefined) => (value === undefined ? '–' : value.toPrecision(3)).padStart(8);
  const lines = [
    `${model.name}: ${model.layers} layers, ${model.experts} experts each, context ${context}, on ${devices.join(', ')}`,
    `layers with experts in the CPU's memory, bytes, predicted decode and prefill in tok/s`,
    `${'layers'.padStart(7)} ${used.map((device) => device.padStart(10)).join(' ')} ${'decode'.padStart(8)} ${'prefill'.padStart(8)}`,
  ];
  for (const { cpuLayers, fits, memory, speed } of rows) {
    const bytes = used.map((device) => bytesText(memory.find((part) => part.device === device)?.bytes ?? 0).padStart(10)).join(' ');
    const bar = '█'.repeat(Math.round((curveWidth * (speed?.decodeTokensPerSecond ?? 0)) / Math.max(most, Number.MIN_VALUE)));
    const what = cpuLayers === chosen ? '  ← fits first' : fits ? '' : '  does not fit';
    lines.push(`${String(cpuLayers).padStart(7)} ${bytes} ${number(speed?.decodeTokensPerSecond)} ${number(speed?.prefillTokensPerSecond)}  ${bar}${what}`);
  }
  if (rows.every(({ speed }) => speed === undefined)) lines.push('speeds are not known yet: --measure');
  return lines.join('\n');
}

/** Files in their order, the best first. */
export function drawBest({ best, files }: BestFile): string {
  return files.map((file) => `${file === best ? '→' : ' '} ${file.path}\n    ${file.reason}`).join('\n');
}
