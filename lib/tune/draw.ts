/**
 * What was measured as text for a terminal.
 */
import type { Ratio, Summary } from '../bench/measure.js';
import type { LayerSweep } from './layers.js';
import type { SpeedMissing, SpeedFigure } from './measuring.js';
import type { SpeedSettings } from './child.js';
import type { TuneResult } from './tune.js';

const rate = ({ median }: Summary) => `${median >= 100 ? median.toFixed(0) : median.toPrecision(3)} tok/s`;
const times = ({ median, q1, q3 }: Summary) => `× ${median.toFixed(3)} (${q1.toFixed(3)} to ${q3.toFixed(3)})`;
const judged = (ratio: Ratio) => `${times(ratio)}${ratio.tie ? ', a tie' : ''}`;

/** "ubatch 256, kv q8_0"; "default" for none. */
export function settingsText(settings: SpeedSettings): string {
  const words = Object.entries(settings).map(([name, value]) => `${name} ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`);
  return words.length === 0 ? 'default' : words.join(', ');
}

/** A line for each of the settings: speeds, and ratios to the default ones. */
export function drawTuning({ base, control, figures, missing, decode, prefill, settings, prompt, tokens, rounds }: TuneResult): string {
  const row = (name: string, first: string, second: string) => `${name.padEnd(34)} ${first.padEnd(46)} ${second}`;
  return [
    row(`${rounds} rounds`, `prefill of ${prompt}`, `decode of ${tokens} behind it`),
    row('default', rate(base.prefill), rate(base.decode)),
    row('default, again', times(control.prefill), times(control.decode)),
    ...figures.map((figure: SpeedFigure) => row(settingsText(figure.settings), `${rate(figure.prefill)} ${judged(figure.prefillRatio)}`, `${rate(figure.decode)} ${judged(figure.decodeRatio)}`)),
    ...missing.map(missingText),
    '',
    `fastest decode   ${settingsText(decode.settings)}${decode.ratio === undefined ? '' : ` ${times(decode.ratio)}`}`,
    `fastest prefill  ${settingsText(prefill.settings)}${prefill.ratio === undefined ? '' : ` ${times(prefill.ratio)}`}`,
    `settings         ${settingsText(settings)}`,
  ].join('\n');
}

const width = 36;

/** The curve as bars, a line for each number of layers. */
export function drawLayers({ figures, missing, layers, best, devices, prompt, tokens }: LayerSweep): string {
  const bar = (test: 'decode' | 'prefill', figure: SpeedFigure) => {
    const top = Math.max(...figures.map((each) => each[test].median));
    return `${'█'.repeat(Math.max(1, Math.round((figure[test].median / top) * width))).padEnd(width)} ${rate(figure[test]).padEnd(12)}`;
  };
  return [
    `layers on ${devices.join(', ')}, of ${layers} with the output`,
    `      ${`decode of ${tokens}`.padEnd(width + 14)}prefill of ${prompt}`,
    ...figures.map((figure) => `${String(figure.settings.gpuLayers).padStart(4)}  ${bar('decode', figure)} ${bar('prefill', figure)}`.trimEnd()),
    ...missing.map(missingText),
    '',
    `fastest decode with ${best.decode}, fastest prefill with ${best.prefill}`,
  ].join('\n');
}

const missingText = ({ settings, outcome, reason }: SpeedMissing) => `${settingsText(settings).padEnd(34)} ${outcome === undefined ? 'not measured' : outcome}: ${reason}`;
