/** `ternion kernels`. */
import { writeFile } from 'node:fs/promises';
import { placements } from '../bench/kernel-options.js';
import type { KernelOptions } from '../bench/kernel-options.js';
import { kernelTable } from '../bench/kernel-report.js';
import { benchmarkKernels } from '../bench/kernels.js';
import { roofline } from '../bench/roofline.js';
import { presetShapes, readShape } from '../bench/shapes.js';
import type { MatrixShape } from '../bench/shapes.js';
import type { PresetName } from '../gguf/presets.js';
import { common, number, parse, UsageError } from './options.js';
import type { Values } from './options.js';
import { progressBar } from './terminal.js';

const options = {
  types: { type: 'string' },
  shapes: { type: 'string' },
  preset: { type: 'string' },
  tokens: { type: 'string' },
  threads: { type: 'string' },
  kernels: { type: 'string' },
  repetitions: { type: 'string' },
  'sample-ms': { type: 'string' },
  'stream-bytes': { type: 'string' },
  streaming: { type: 'boolean' },
  resident: { type: 'boolean' },
  plot: { type: 'string' },
} as const;

export const kernels = {
  help: `ternion kernels [options]

How fast single matrix products are on this CPU: upstream's kernels and ours in turn, in memory and in cache, beside the
read bandwidth that is measured in the same run, with the error of what they compute. Close other work while it runs.

  --types LIST          default tq1_0,tq2_0,stq1_0,q8_0
  --shapes LIST         ROWSxCOLUMNS, or of a mixture ROWSxCOLUMNSxEXPERTS/USED (default 2560x2560)
  --preset NAME         the matrices of a model's layers (ternion synth --list names the presets)
  --tokens LIST         columns of activations (default 1,8)
  --threads LIST        default 1 and one per physical core
  --kernels LIST        ours beside upstream's: names, all, or fastest (default)
  --streaming           weights from memory only         --resident   weights in the last-level cache only
  --repetitions N       samples that count (default 20)
  --sample-ms N         what a sample takes (default 5)
  --stream-bytes N      that streaming goes round (default: four times the last-level cache)
  --plot FILE           writes a roofline as SVG
  --json                the whole report`,
  async run(args: string[], signal: AbortSignal): Promise<number> {
    const { values, positionals } = parse(args, { ...common, ...options });
    if (positionals.length > 0) throw new UsageError(`kernels takes options only; found '${positionals[0]}'`);
    const bar = progressBar('measuring');
    try {
      const report = await benchmarkKernels({ ...kernelOptions(values), signal, onProgress: bar });
      bar(1);
      console.log(values['json'] === true ? JSON.stringify(report, null, 2) : kernelTable(report));
      if (values['plot'] !== undefined) await writeFile(values['plot'] as string, roofline(report));
    } finally {
      bar(1);
    }
    return 0;
  },
};

function kernelOptions(values: Values): KernelOptions {
  const names = list(values, 'kernels');
  const placed = placements.filter((name) => values[name] === true);
  return {
    types: list(values, 'types') as KernelOptions['types'],
    shapes: shapes(values),
    tokens: list(values, 'tokens')?.map(Number),
    threads: list(values, 'threads')?.map(Number),
    kernels: names?.length === 1 && (names[0] === 'all' || names[0] === 'fastest') ? names[0] : names,
    placements: placed.length > 0 ? placed : undefined,
    repetitions: number(values, 'repetitions'),
    sampleMs: number(values, 'sample-ms'),
    streamBytes: number(values, 'stream-bytes'),
  };
}

function shapes(values: Values): MatrixShape[] | undefined {
  const named = list(values, 'shapes')?.map((text) => {
    const shape = readShape(text);
    if (shape === undefined) throw new UsageError(`--shapes takes ROWSxCOLUMNS or ROWSxCOLUMNSxEXPERTS/USED; found '${text}'`);
    return shape;
  });
  const preset = values['preset'] === undefined ? [] : presetShapes(values['preset'] as PresetName);
  return named === undefined && preset.length === 0 ? undefined : [...(named ?? []), ...preset];
}

function list(values: Values, name: string): string[] | undefined {
  return (values[name] as string | undefined)?.split(',').map((item) => item.trim());
}
