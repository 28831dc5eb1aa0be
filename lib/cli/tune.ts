/** `ternion tune MODEL`. */
import type { KvType } from '../kv.js';
import { drawLayers, drawTuning } from '../tune/draw.js';
import { sweepLayers } from '../tune/layers.js';
import { tune as findSettings } from '../tune/tune.js';
import { common, loadOptions, loading, number, parse, UsageError } from './options.js';
import type { Values } from './options.js';
import { progressBar } from './terminal.js';

const { model, device, 'gpu-layers': gpuLayers, 'cpu-experts': cpuExperts, context } = loading;

export const tune = {
  help: `ternion tune MODEL [options]

The fastest settings here, found by measuring: the default ones, the same again (the control) and others take turns, each sample in a
process of its own. What is found is kept; settings that crashed or hung are not repeated. Close other work while it runs.

  --ubatch LIST   --kv LIST   --threads LIST   --flash-attention on|off|on,off
                        values to choose between beside the default; none leaves a setting alone
  --layers              the speed over the number of layers on the GPU instead, as a curve
  --layer-counts LIST   which (nine from none to all)
  --device ID   --gpu-layers N   --cpu-experts N|all   --context N
  --prompt N            tokens to prefill (1024)   --tokens N   to decode (64)   --rounds N   that count (5)
  --timeout SECONDS     of one sample (default: as long as it gives signs of life)
  --fresh               whatever was measured before   --retry   also what crashed or hung
  --json                what was found as an object`,
  async run(args: string[], signal: AbortSignal): Promise<number> {
    const { values, positionals } = parse(args, {
      ...common, model, device, 'gpu-layers': gpuLayers, 'cpu-experts': cpuExperts, context,
      ubatch: { type: 'string' }, kv: { type: 'string' }, threads: { type: 'string' }, 'flash-attention': { type: 'string' },
      layers: { type: 'boolean' }, 'layer-counts': { type: 'string' }, prompt: { type: 'string' }, tokens: { type: 'string' }, rounds: { type: 'string' },
      timeout: { type: 'string' }, fresh: { type: 'boolean' }, retry: { type: 'boolean' },
    });
    const path = positionals[0] ?? (values['model'] as string | undefined);
    if (path === undefined || positionals.length > 1) throw new UsageError('tune takes one MODEL');
    const { devices, gpuLayers: layerCount, experts } = loadOptions({ device: values['device'], 'gpu-layers': values['gpu-layers'], 'cpu-experts': values['cpu-experts'] });
    const seconds = number(values, 'timeout');
    const bar = progressBar('measuring');
    const how = {
      devices, context: number(values, 'context'), signal, onProgress: bar,
      prompt: number(values, 'prompt'), tokens: number(values, 'tokens'), rounds: number(values, 'rounds'),
      probeTimeoutMs: seconds === undefined ? undefined : Math.round(seconds * 1000),
      fresh: values['retry'] === true ? ('all' as const) : values['fresh'] === true,
    };
    try {
      const text = values['layers'] === true || values['layer-counts'] !== undefined ? await layers() : await settings();
      bar(1);
      console.log(text);
    } finally {
      bar(1);
    }
    return 0;

    async function layers(): Promise<string> {
      const [wrong] = ['ubatch', 'kv', 'threads', 'flash-attention', 'gpu-layers', 'cpu-experts'].filter((name) => values[name] !== undefined);
      if (wrong !== undefined) throw new UsageError(`--${wrong} is given with --layers, which varies the layers alone; leave one out`);
      const found = await sweepLayers(path!, { ...how, layers: numbers(values, 'layer-counts') });
      return values['json'] === true ? JSON.stringify(found) : drawLayers(found);
    }
    async function settings(): Promise<string> {
      const found = await findSettings(path!, {
        ...how, gpuLayers: layerCount, experts,
        ubatch: numbers(values, 'ubatch'), threads: numbers(values, 'threads'),
        kv: words(values, 'kv') as KvType[] | undefined,
        flashAttention: words(values, 'flash-attention')?.map((word) => {
          if (word !== 'on' && word !== 'off') throw new UsageError(`--flash-attention takes on, off or both; found '${word}'`);
          return word === 'on';
        }),
      });
      return values['json'] === true ? JSON.stringify(found) : drawTuning(found);
    }
  },
};

/** A list with commas between; `none` is an empty one. */
function words(values: Values, name: string): string[] | undefined {
  const text = values[name] as string | undefined;
  return text === undefined ? undefined : text === 'none' ? [] : text.split(',').map((word) => word.trim());
}

function numbers(values: Values, name: string): number[] | undefined {
  return words(values, name)?.map((word) => number({ [name]: word }, name)!);
}
