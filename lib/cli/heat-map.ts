/**
 * Which experts tokens were routed to, layer by layer: for a terminal, and as a picture.
 */
import { text } from '../bench/svg.js';
import type { ExpertLayer } from '../expert-cache.js';

const shades = ' ░▒▓█';
const widest = 128; // experts in a terminal's line; more share a character

/** Of the tokens, the share that chose each expert, beside what it would be if all were chosen alike: 1 is even. */
export function evenness({ counts, experts }: ExpertLayer): number[] {
  const all = counts.reduce((sum, count) => sum + count, 0);
  return counts.map((count) => (all === 0 ? 0 : (count / all) * experts));
}

/** A line for each layer, darker where more tokens went: `█` is four times as many as even routing would send. */
export function terminalMap(layers: readonly ExpertLayer[]): string {
  return layers
    .map((layer) => {
      const shares = evenness(layer);
      const together = Math.ceil(shares.length / widest);
      const cells = Array.from({ length: Math.ceil(shares.length / together) }, (_, i) => Math.max(...shares.slice(i * together, (i + 1) * together)));
      return `${String(layer.layer).padStart(4)} │${cells.map((share) => shades[share === 0 ? 0 : Math.min(4, 1 + Math.floor(share))]).join('')}│ ${summary(layer)}`;
    })
    .join('\n');
}

/** How many experts do half of the work, and how many do none. */
export function summary({ counts, experts, tokens }: ExpertLayer): string {
  const sorted = [...counts].sort((a, b) => b - a);
  const all = sorted.reduce((sum, count) => sum + count, 0);
  let half = 0;
  for (let sum = 0; half < sorted.length && sum < all / 2; half++) sum += sorted[half]!;
  const idle = sorted.filter((count) => count === 0).length;
  return `${tokens} tokens, ${half} of ${experts} do half of the work${idle > 0 ? `, ${idle} none` : ''}`;
}

const left = 56;
const top = 44;

/** An SVG of layers (rows) and experts (columns); readable on light and dark ground. */
export function heatMap(layers: readonly ExpertLayer[], title: string, note: string): string {
  const columns = Math.max(1, ...layers.map(({ experts }) => experts));
  const cell = Math.max(3, Math.min(18, Math.floor(900 / columns)));
  const row = Math.max(8, Math.min(18, cell));
  const width = Math.max(left + columns * cell + 16, 600);
  const height = top + layers.length * row + 56;
  const parts = [text(12, 20, title, 'font-weight="600"'), text(left, 38, `experts 0 to ${columns - 1}`, 'class="n"')];
  layers.forEach((layer, i) => {
    const y = top + i * row;
    parts.push(text(left - 8, y + row - 3, String(layer.layer), 'text-anchor="end" class="n"'));
    evenness(layer).forEach((share, expert) => {
      const opacity = Math.min(1, share / 4);
      parts.push(`<rect x="${left + expert * cell}" y="${y}" width="${cell - (cell > 5 ? 1 : 0)}" height="${row - 1}" class="c" fill-opacity="${(0.06 + 0.94 * opacity).toFixed(3)}"/>`);
    });
  });
  parts.push(text(12, height - 30, note, 'class="n"'), text(12, height - 12, 'rows: layers; the darker, the more tokens: full colour is four times as many as even routing', 'class="n"'));
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">
<style>
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .n { font-size: 11px; fill: #59636e }
  .c { fill: #2f6fde }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .n { fill: #9198a1 } .c { fill: #6ea8fe } }
</style>
${parts.join('\n')}
</svg>
`;
}
