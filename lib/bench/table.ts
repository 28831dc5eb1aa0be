/**
 * A report as text.
 */
import { own } from './recorder.js';
import type { BenchReport, Comparison, Figure, Unit } from './report.js';

/** A number of a unit as people write it: `1,234 tok/s`, `93 ms`, `12.3 MiB`. */
export function show(value: number, unit: Unit): string {
  if (unit === 'bytes') return `${(value / 2 ** 20).toFixed(1)} MiB`;
  const digits = value >= 1000 ? 0 : value >= 100 ? 1 : value >= 1 ? 2 : 4;
  return `${value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })} ${unit}`;
}

/** Without the control characters that a file's metadata may hold. */
export function printable(text: string): string {
  // eslint-disable-next-line no-control-regex -- they are what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '�');
}

/** The report for a terminal: a block per test, with quartiles, and how ternion compares with each other system. */
export function table(report: BenchReport): string {
  const { machine, model, settings, readGigabytesPerSecond } = report;
  const reads = Object.entries(readGigabytesPerSecond).map(([threads, rate]) => `${rate} GB/s with ${threads} thread${threads === '1' ? '' : 's'}`);
  const lines = [
    `${printable(model.name || model.file)} · ${model.quantization} · ${show(model.bytes, 'bytes')} · ${(model.parameters / 1e6).toFixed(1)} M weights`,
    `${machine.cpu} · ${machine.cores} cores · memory reads ${reads.join(', ')}`,
    `${settings.devices.join(' + ') || 'cpu'} · ${settings.threads} threads · median of ${settings.rounds} rounds (quartiles) · Node ${machine.node}`,
  ];
  for (const test of new Set(report.figures.map((figure) => figure.test))) {
    lines.push('', test);
    for (const figure of report.figures.filter((each) => each.test === test)) lines.push(row(figure, report.ratios));
    for (const { system, reason } of report.missing.filter((each) => each.test === test)) lines.push(`  ${system.padEnd(32)} not measured: ${reason}`);
  }
  const shown = new Set(report.figures.map((figure) => figure.test));
  for (const { test, system, reason } of report.missing.filter((each) => !shown.has(each.test))) lines.push('', test, `  ${system.padEnd(32)} not measured: ${reason}`);
  return lines.join('\n');
}

function row({ test, system, unit, median, q1, q3 }: Figure, ratios: readonly Comparison[]): string {
  const name = system === own && unit !== 'tok/s' ? '' : system;
  const line = `  ${name.padEnd(32)} ${show(median, unit).padStart(16)}   (${show(q1, unit)} to ${show(q3, unit)})`;
  // The ratio stands beside what ternion is compared with; the control, and a disturbed run, beside themselves.
  const ratio = ratios.find((each) => unit === 'tok/s' && each.test === test && (each.system === own ? each.to === system : each.system === system));
  if (ratio === undefined) return line;
  return `${line.padEnd(84)} ${ratio.system} = ${ratio.median.toFixed(3)} × ${ratio.to} (${ratio.q1.toFixed(3)} to ${ratio.q3.toFixed(3)}${ratio.tie ? ', a tie' : ''})`;
}

/** Two reports side by side: what changed between an older run and this one, of what both measured. */
export function changes(before: BenchReport, after: BenchReport): string {
  const lines: string[] = [];
  if (before.machine.cpu !== after.machine.cpu) lines.push(`Another machine: ${before.machine.cpu} before, ${after.machine.cpu} now. Only ratios compare.`);
  if (before.model.file !== after.model.file || before.model.bytes !== after.model.bytes) lines.push(`Another model: ${before.model.file} (${before.model.bytes} bytes) before, ${after.model.file} (${after.model.bytes} bytes) now.`);
  for (const key of Object.keys(after.settings) as (keyof BenchReport['settings'])[]) {
    const [then, now] = [before.settings[key], after.settings[key]].map((value) => JSON.stringify(value));
    if (then !== now && key !== 'rounds') lines.push(`Another setting: ${key} was ${then}, is ${now}.`);
  }
  lines.push(`${'figure'.padEnd(56)} ${'before'.padStart(16)} ${'now'.padStart(16)}   change`);
  for (const now of after.figures) {
    const then = before.figures.find(({ test, system, unit }) => test === now.test && system === now.system && unit === now.unit);
    if (then) lines.push(change(`${now.test}, ${now.system}`, show(then.median, now.unit), show(now.median, now.unit), then, now));
  }
  for (const now of after.ratios) {
    const then = before.ratios.find(({ test, system, to }) => test === now.test && system === now.system && to === now.to);
    if (then) lines.push(change(`${now.test}, ${now.system} to ${now.to}`, then.median.toFixed(3), now.median.toFixed(3), then, now));
  }
  return lines.join('\n');
}

interface Spread {
  readonly median: number;
  readonly q1: number;
  readonly q3: number;
}

// Two boxes that overlap say nothing; a percentage there would look like a finding.
function change(name: string, before: string, now: string, a: Spread, b: Spread): string {
  const percent = 100 * (b.median / a.median - 1);
  const apart = a.q3 < b.q1 || b.q3 < a.q1;
  return `${name.padEnd(56)} ${before.padStart(16)} ${now.padStart(16)}   ${percent >= 0 ? '+' : ''}${percent.toFixed(1)} %${apart ? '' : ' (quartiles overlap)'}`;
}
