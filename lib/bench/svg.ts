/**
 * What pictures are made of.
 */
import { printable } from './table.js';

const lineLength = 140; // characters that fit at 11 px

/** Lines that fit under a picture. */
export function wrapped(note: string): string[] {
  return note.split(' ').reduce<string[]>((lines, word) => {
    const last = lines.at(-1);
    return last === undefined || last.length + word.length >= lineLength ? [...lines, word] : [...lines.slice(0, -1), `${last} ${word}`];
  }, []);
}

/** Of what is told apart. */
export const colours = ['#2f6fde', '#e08a1e', '#3a9d5d', '#b04fc4', '#c9433f', '#1f9aa8', '#7a7f87'] as const;

/** An SVG of these elements; readable on light and dark ground. `.n` is a note, `.q` a thin line. */
export function picture(width: number, height: number, parts: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">
<style>
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .n { font-size: 11px; fill: #59636e }
  .q { stroke: #1f2328; stroke-width: 1; fill: none; opacity: .55 }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .n { fill: #9198a1 } .q { stroke: #e6edf3 } }
</style>
${parts.join('\n')}
</svg>
`;
}

export function text(x: number, y: number, content: string, attributes = ''): string {
  const escaped = printable(content).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  return `<text x="${x}" y="${y}"${attributes ? ` ${attributes}` : ''}>${escaped}</text>`;
}
