/**
 * A plan as a picture.
 */
import { colours, picture, text, wrapped } from '../bench/svg.js';
import { bytesText, parts } from './draw.js';
import type { PlannedMemory } from './memory.js';
import type { Plan } from './plan.js';

const width = 860;
const margin = 12;
const labelWidth = 96;
const bar = 26;
const barWidth = width - labelWidth - margin;
const grey = '#7a7f87';

/** An SVG: for each device a bar of its whole memory with what the plan takes, what others have, what is free and what is left alone. */
export function pictureOf(plan: Plan): string {
  const { model, kv, context, sequences } = plan;
  const drawn: string[] = [];
  let y = 26;
  drawn.push(text(margin, y, `${model.name}: ${model.architecture}, ${model.quantization}, ${bytesText(model.fileBytes)}`, 'font-weight="600"'));
  const settings = `context ${context} · ${sequences} sequence${sequences === 1 ? '' : 's'} · KV cache ${kv.k === kv.v ? kv.k : `${kv.k}/${kv.v}`} · on ${plan.devices.join(', ')} · ${plan.fits ? 'fits' : 'does not fit'}`;
  drawn.push(text(margin, (y += 18), settings, 'class="n"'));
  y += 14;
  for (const memory of plan.memory) {
    drawn.push(...device(memory, y));
    y += bar + 44;
  }
  for (const { message } of plan.reasons) for (const line of wrapped(message)) drawn.push(text(margin, (y += 16), line, 'class="n"'));
  return picture(width, y + 14, drawn);
}

function device(memory: PlannedMemory, top: number): string[] {
  const { totalBytes, freeBytes, reserveBytes, bytes } = memory;
  const scale = barWidth / Math.max(totalBytes, totalBytes - freeBytes + bytes, 1);
  const drawn: string[] = [text(margin, top + bar / 2 + 4, memory.device, 'font-weight="600"')];
  let x = labelWidth;
  const block = (title: string, size: number, colour: string, opacity = 1) => {
    if (size <= 0) return;
    const long = size * scale;
    drawn.push(`<rect x="${x.toFixed(2)}" y="${top}" width="${long.toFixed(2)}" height="${bar}" fill="${colour}"${opacity < 1 ? ` fill-opacity="${opacity}"` : ''}><title>${title}: ${size} bytes</title></rect>`);
    x += long;
  };
  for (const [i, [key, name]] of parts.entries()) block(name, memory[key], colours[i % colours.length]!);
  const others = Math.max(0, totalBytes - freeBytes);
  block('others', others, grey, 0.55);
  drawn.push(`<rect x="${labelWidth}" y="${top}" width="${(totalBytes * scale).toFixed(2)}" height="${bar}" fill="none" stroke="${grey}"/>`);
  const limit = labelWidth + (totalBytes - reserveBytes) * scale; // what is beyond it is left alone
  if (reserveBytes > 0 && reserveBytes < totalBytes) drawn.push(`<path d="M${limit.toFixed(2)} ${top - 4}v${bar + 8}" class="q" stroke-dasharray="3 2"><title>left alone: ${reserveBytes} bytes</title></path>`);
  let at = labelWidth;
  const note = (name: string, size: number, colour: string) => {
    const words = `${name} ${bytesText(size)}`;
    drawn.push(`<rect x="${at}" y="${top + bar + 8}" width="9" height="9" fill="${colour}"/>`, text(at + 13, top + bar + 16, words, 'class="n"'));
    at += 13 + words.length * 6.2 + 12;
  };
  for (const [i, [key, name]] of parts.entries()) if (memory[key] > 0) note(name, memory[key], colours[i % colours.length]!);
  const shares = memory.pool === memory.device ? '' : `, of ${memory.pool}'s`;
  drawn.push(text(width - margin, top + bar + 32, `${bytesText(bytes)} of ${bytesText(freeBytes)} free${shares}, ${bytesText(totalBytes)} in all, ${bytesText(reserveBytes)} left alone`, 'class="n" text-anchor="end"'));
  return drawn;
}
