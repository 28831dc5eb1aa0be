/** `ternion synth PRESET FILE`: a GGUF of random weights in a model's true shape. */
import { presets } from '../gguf/presets.js';
import type { PresetName } from '../gguf/presets.js';
import type { TensorType } from '../gguf/shape.js';
import { synthesize } from '../gguf/synth.js';
import { common, number, parse, UsageError } from './options.js';
import { progressBar } from './terminal.js';

const help = `ternion synth PRESET FILE [options]
ternion synth --list

Writes a GGUF of seeded random weights in the true shape of a model. The same seed gives the same bytes everywhere.

  --layers N            cut the depth
  --type T              type of the matrices, e.g. tq2_0, q4_K, f16      --experts T     of a mixture's experts
  --embedding T         of the embedding                                 --head T        of the output head
  --seed N              default 1
  --tokenizer FILE      a GGUF whose tokenizer is used (default: the embedded model's), filled up with unused tokens
  --header-only         a sparse file with all of the header and none of the weights
  --json                { file, bytes }, or with --list { presets: { NAME: { shape, types } } }`;

const options = {
  list: { type: 'boolean' },
  layers: { type: 'string' },
  type: { type: 'string' },
  experts: { type: 'string' },
  embedding: { type: 'string' },
  head: { type: 'string' },
  seed: { type: 'string' },
  tokenizer: { type: 'string' },
  'header-only': { type: 'boolean' },
} as const;

export const synth = {
  help,
  async run(args: string[], signal: AbortSignal): Promise<number> {
    const { values, positionals } = parse(args, { ...common, ...options });
    const json = values['json'] === true;
    if (values['list'] === true) {
      if (json) console.log(JSON.stringify({ presets }));
      else for (const [name, { shape, types }] of Object.entries(presets)) console.log(`${name.padEnd(24)} ${shape.architecture.padEnd(14)} ${String(shape.layers).padStart(3)} layers of ${shape.width}  ${types.matrices}`);
      return 0;
    }
    const [name, file] = positionals;
    if (name === undefined || file === undefined || positionals.length > 2) throw new UsageError('synth takes a PRESET and a FILE (synth --list names the presets)');
    const type = (key: string) => values[key] as TensorType | undefined;
    const bar = progressBar('writing');
    try {
      const bytes = await synthesize(file, name as PresetName, {
        layers: number(values, 'layers'),
        types: { ...given({ matrices: type('type'), experts: type('experts'), embedding: type('embedding'), head: type('head') }) },
        seed: number(values, 'seed'),
        tokenizer: values['tokenizer'] as string | undefined,
        headerOnly: values['header-only'] === true,
        onProgress: bar,
        signal,
      });
      bar(1);
      console.log(json ? JSON.stringify({ file, bytes }) : `${file}: ${(bytes / 2 ** 20).toFixed(1)} MiB`);
    } finally {
      bar(1);
    }
    return 0;
  },
};

function given(types: Record<string, TensorType | undefined>): Record<string, TensorType> {
  return Object.fromEntries(Object.entries(types).filter((entry): entry is [string, TensorType] => entry[1] !== undefined));
}
