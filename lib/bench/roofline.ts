/**
 * A benchmark of kernels as a picture: what memory and arithmetic allow, and where each kernel is below that.
 */
import { caseName } from './kernel-report.js';
import type { KernelFigure, KernelReport } from './kernel-report.js';
import { text, wrapped } from './svg.js';

const width = 860;
const plot = { left: 64, right: 24, height: 380, legend: 22 } as const;
const ours = ['#2f6fde', '#e08a1e', '#3a9d5d', '#b04fc4', '#c9433f', '#1f9aa8'] as const;
const theirs = ['#7a7f87', '#a58b6f', '#6f8f8a'] as const;
// Paths around the origin, in pixels.
const markers = ['M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z', 'M-4-4h8v8h-8z', 'M0-5.5L5 3.8h-10z', 'M0-5.5L5.5 0L0 5.5L-5.5 0z', 'M0 5.5L5-3.8h-10z', 'M-5-2h3v-3h4v3h3v4h-3v3h-4v-3h-3z'] as const;

/** A panel per thread count. Readable on light and dark ground. */
export function roofline(report: KernelReport): string {
  const { figures, ceilings, machine } = report;
  const systems = [...new Set(figures.map(({ kernels }) => kernels))];
  const types = [...new Set(figures.map(({ type }) => type))];
  const colour = (name: string): string => {
    const upstream = name.startsWith('upstream');
    const alike = systems.filter((each) => each.startsWith('upstream') === upstream);
    const colours = upstream ? theirs : ours;
    return colours[alike.indexOf(name) % colours.length] ?? ours[0];
  };
  // Kernels that read the same bytes would stand on top of each other.
  const aside = (name: string): number => 7 * (systems.indexOf(name) - (systems.length - 1) / 2);
  const marker = (type: string): string => markers[types.indexOf(type) % markers.length] ?? markers[0];
  const parts: string[] = [];
  let y = 8;
  for (const threads of new Set(figures.map((figure) => figure.threads))) {
    const of = (list: readonly KernelFigure[]): KernelFigure[] => list.filter((figure) => figure.threads === threads);
    parts.push(...panel(y, threads, of(figures), of(ceilings), report, { colour, marker, aside }));
    y += plot.height + 84;
  }
  let x = 12;
  const legend = (mark: string, label: string): void => {
    const wide = 30 + 6.6 * label.length;
    if (x + wide > width) [x, y] = [12, y + plot.legend];
    parts.push(mark, text(x + 16, y + 4, label));
    x += wide;
  };
  for (const name of systems) legend(`<path d="${markers[0]}" fill="${colour(name)}" transform="translate(${x + 5} ${y})"/>`, name);
  [x, y] = [12, y + plot.legend];
  for (const type of types) legend(`<path d="${marker(type)}" class="m" transform="translate(${x + 5} ${y})"/>`, type);
  y += 8;
  const note = `Filled: weights stream from memory. Hollow: the last-level cache holds them. Short lines: the same kernel with weights in the nearest caches. Numbers: tokens. Kernels with the same weights per byte stand side by side. Medians of ${report.settings.repetitions} samples. ${machine.cpu}`;
  for (const line of wrapped(note)) parts.push(text(12, (y += 16), line, 'class="n"'));
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y + 14}" viewBox="0 0 ${width} ${y + 14}" role="img">
<style>
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .n { font-size: 11px; fill: #59636e }
  .g { stroke: #1f2328; opacity: .12 }
  .r { stroke: #1f2328; stroke-width: 2; fill: none }
  .m { fill: #59636e }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .n { fill: #9198a1 } .g, .r { stroke: #e6edf3 } .m { fill: #9198a1 } }
</style>
${parts.join('\n')}
</svg>
`;
}

/** How kernels and types are told apart. */
interface Look {
  readonly colour: (kernels: string) => string;
  readonly marker: (type: string) => string;
  /** Pixels to the right of where it belongs. */
  readonly aside: (kernels: string) => number;
}

function panel(top: number, threads: number, figures: readonly KernelFigure[], ceilings: readonly KernelFigure[], report: KernelReport, { colour, marker, aside }: Look): string[] {
  const bandwidth = report.readGigabytesPerSecond[threads] ?? Number.NaN;
  const peak = report.multiplyAdd?.gigaproductsPerSecond[threads];
  const all = [...figures, ...ceilings];
  const xs = all.map(({ weightsPerByte }) => weightsPerByte);
  const rates = all.map(({ gigaweightsPerSecond }) => gigaweightsPerSecond.median);
  const [left, right] = [Math.min(...xs) / 3.5, Math.max(...xs) * 1.6] // room for the memory's label;
  const [low, high] = [Math.min(...rates) / 1.6, Math.max(...rates, peak ?? 0) * 1.8];
  const inner = { top: top + 30, bottom: top + 30 + plot.height, left: plot.left, right: width - plot.right };
  const place = (value: number, from: number, to: number, start: number, end: number): number => start + ((end - start) * Math.log(value / from)) / Math.log(to / from);
  const at = { x: (value: number) => place(value, left, right, inner.left, inner.right), y: (value: number) => place(value, low, high, inner.bottom, inner.top) };
  const px = (value: number): string => value.toFixed(1);

  const parts = [text(12, top + 16, `${threads} thread${threads === 1 ? '' : 's'}`, 'font-weight="600"'), text(112, top + 16, '10⁹ weights multiplied per second', 'class="n"')];
  for (const value of ticks(left, right)) parts.push(`<path d="M${px(at.x(value))} ${inner.top}V${inner.bottom}" class="g"/>`, text(Math.round(at.x(value)), inner.bottom + 16, number(value), 'class="n" text-anchor="middle"'));
  for (const value of ticks(low, high)) parts.push(`<path d="M${inner.left} ${px(at.y(value))}H${inner.right}" class="g"/>`, text(inner.left - 8, Math.round(at.y(value)) + 4, number(value), 'class="n" text-anchor="end"'));
  parts.push(text((inner.left + inner.right) / 2, inner.bottom + 34, 'weights multiplied per byte of weights', 'class="n" text-anchor="middle"'));

  // The roof: memory's slope from where it enters the picture, up to what arithmetic allows.
  const flat = peak ?? high;
  const [from, knee] = [Math.max(left, low / bandwidth), flat / bandwidth];
  const end = Math.min(knee, right);
  if (from < end) {
    parts.push(`<path d="M${px(at.x(from))} ${px(at.y(from * bandwidth))}L${px(at.x(end))} ${px(at.y(end * bandwidth))}${peak !== undefined && knee < right ? `H${inner.right}` : ''}" class="r"/>`);
    const angle = (Math.atan2(at.y(end * bandwidth) - at.y(from * bandwidth), at.x(end) - at.x(from)) * 180) / Math.PI;
    // Left of all points.
    const middle = Math.sqrt(from * Math.max(2 * from, Math.min(...xs) / 1.1));
    const [x, y] = [at.x(middle), at.y(middle * bandwidth)];
    parts.push(text(0, 0, `memory: ${number(bandwidth)} GB/s`, `class="n" text-anchor="middle" transform="translate(${px(x)} ${px(y)}) rotate(${px(angle)}) translate(0 -7)"`));
  }
  if (peak !== undefined && knee < right) parts.push(text(inner.right, Math.round(at.y(peak)) - 7, `${report.multiplyAdd?.instruction}: ${number(peak)} G multiply-adds/s`, 'class="n" text-anchor="end"'));

  for (const { kernels, weightsPerByte, gigaweightsPerSecond } of ceilings) {
    parts.push(`<path d="M${px(at.x(weightsPerByte) + aside(kernels) - 7)} ${px(at.y(gigaweightsPerSecond.median))}h14" stroke="${colour(kernels)}" stroke-width="2" class="c"/>`);
  }
  for (const figure of figures) {
    const paint = figure.placement === 'streaming' ? `fill="${colour(figure.kernels)}"` : `fill="none" stroke="${colour(figure.kernels)}" stroke-width="1.5"`;
    const title = `${caseName(figure)}, ${figure.kernels}: ${number(figure.gigaweightsPerSecond.median)} Gweights/s`;
    parts.push(`<path d="${marker(figure.type)}" ${paint} transform="translate(${px(at.x(figure.weightsPerByte) + aside(figure.kernels))} ${px(at.y(figure.gigaweightsPerSecond.median))})" class="p"><title>${title}</title></path>`);
  }
  return [...parts, ...labels(figures, at, aside)];
}

/** The number of tokens, right of the fastest of the points that stand above each other. */
function labels(figures: readonly KernelFigure[], at: { x(value: number): number; y(value: number): number }, aside: Look['aside']): string[] {
  const fastest = new Map<string, KernelFigure>();
  for (const figure of figures) {
    const key = `${Math.round(at.x(figure.weightsPerByte) / 12)} ${figure.tokens}`;
    if ((fastest.get(key)?.gigaweightsPerSecond.median ?? 0) < figure.gigaweightsPerSecond.median) fastest.set(key, figure);
  }
  return [...fastest.values()].map(({ kernels, tokens, weightsPerByte, gigaweightsPerSecond }) => text(Math.round(at.x(weightsPerByte) + aside(kernels)) + 8, Math.round(at.y(gigaweightsPerSecond.median)) - 3, String(tokens), 'class="n"'));
}

/** 1, 2 and 5 of each power of ten in between; only the powers where that would be many. */
function ticks(from: number, to: number): number[] {
  const steps = to / from > 2000 ? [1] : [1, 2, 5];
  const values: number[] = [];
  for (let power = Math.floor(Math.log10(from)); power <= Math.ceil(Math.log10(to)); power++) {
    for (const step of steps) values.push(step * 10 ** power);
  }
  return values.filter((value) => value >= from && value <= to);
}

const number = (value: number): string => value.toLocaleString('en', { maximumSignificantDigits: 3 });
