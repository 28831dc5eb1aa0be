/**
 * A report as a picture.
 */
import type { BenchReport, Figure } from './report.js';
import { colours, picture, text, wrapped } from './svg.js';
import { show } from './table.js';

const width = 860;
const labelWidth = 210;
const valueWidth = 130;
const bar = 16;
const gap = 5;

/** A panel of bars: what they are of, and the figures, longest bar = highest rate. */
export interface Panel {
  readonly title: string;
  readonly figures: readonly Figure[];
}

/** Panels of a report: each test that has a rate, the controls left out. */
export function panels(report: BenchReport, title = report.model.name || report.model.file): Panel[] {
  const rates = report.figures.filter(({ unit, system }) => unit === 'tok/s' && !system.endsWith(', again'));
  return [...new Set(rates.map(({ test }) => test))].map((test) => ({
    title: `${title}: ${test}`,
    figures: rates.filter((figure) => figure.test === test),
  }));
}

/** An SVG of bars with their quartiles as whiskers; readable on light and dark ground. `note` goes under it. */
export function chart(list: readonly Panel[], note: string): string {
  const systems = [...new Set(list.flatMap(({ figures }) => figures.map(({ system }) => system)))];
  let y = 12;
  const parts: string[] = [];
  for (const { title, figures } of list) {
    const top = Math.max(...figures.map(({ q3 }) => q3));
    const scale = (value: number): number => ((width - labelWidth - valueWidth) * value) / top;
    parts.push(text(12, (y += 18), title, 'font-weight="600"'));
    y += 9;
    for (const { system, median, q1, q3, unit } of figures) {
      const middle = y + bar / 2;
      const [low, high] = [labelWidth + scale(q1), labelWidth + scale(q3)].map((x) => x.toFixed(1));
      parts.push(
        text(labelWidth - 8, middle + 4, system, 'text-anchor="end"'),
        `<rect x="${labelWidth}" y="${y}" width="${scale(median).toFixed(1)}" height="${bar}" rx="2" fill="${colours[systems.indexOf(system) % colours.length]}"/>`,
        `<path d="M${low} ${middle}H${high}M${low} ${middle - 4}v8M${high} ${middle - 4}v8" class="q"/>`,
        text(Number(high) + 8, middle + 4, show(median, unit)),
      );
      y += bar + gap;
    }
    y += 6;
  }
  for (const line of wrapped(note)) parts.push(text(12, (y += 16), line, 'class="n"'));
  return picture(width, y + 14, parts);
}
