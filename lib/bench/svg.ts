/**
 * Text in pictures.
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

export function text(x: number, y: number, content: string, attributes = ''): string {
  const escaped = printable(content).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  return `<text x="${x}" y="${y}"${attributes ? ` ${attributes}` : ''}>${escaped}</text>`;
}
