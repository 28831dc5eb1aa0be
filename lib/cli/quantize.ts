/** `ternion quantize IN OUT TYPE`: a model in a smaller type, and what that costs. */
import { quantize as quantizeFile, quantizeTypes } from '../gguf/quantize.js';
import type { Quantization, QuantizeType } from '../gguf/quantize.js';
import { tensorTypes } from '../gguf/shape.js';
import type { TensorType } from '../gguf/shape.js';
import { common, number, parse, UsageError } from './options.js';
import type { Values } from './options.js';
import { mib, progressBar } from './terminal.js';

const help = `ternion quantize IN OUT TYPE [options]

Writes the model IN (of a split one any part) as OUT with its weights in TYPE, and says how much that changes each tensor:
the relative error ‖W − Ŵ‖² / ‖W‖², or that nothing was lost.

TYPE: ${quantizeTypes.slice(0, 21).join(', ')},
  ${quantizeTypes.slice(21).join(', ')}

  --embedding T         type of the embedding, e.g. q6_K, q8_0, f16
  --head T              type of the output head, or of the embedding where that is the head
  --imatrix FILE        importance matrix of llama-imatrix; the smallest types need one
  --force               ternary types (TQ1_0, TQ2_0, STQ1_0, Q1_0, Q2_0) for weights that are not ternary, too
  --allow-requantize    round again what was rounded before. WARNING: worse than quantising the original weights
  --threads N           default: one per physical core
  --json                { file, type, inputBytes, bytes, relativeError, lossless, tensors: [{ name, from, to, bytes, relativeError, lossless }] }`;

const options = {
  embedding: { type: 'string' },
  head: { type: 'string' },
  imatrix: { type: 'string' },
  force: { type: 'boolean' },
  'allow-requantize': { type: 'boolean' },
  threads: { type: 'string' },
} as const;

export const quantize = {
  help,
  async run(args: string[], signal: AbortSignal): Promise<number> {
    const { values, positionals } = parse(args, { ...common, ...options });
    const [input, output, type] = positionals;
    if (input === undefined || output === undefined || type === undefined || positionals.length > 3) throw new UsageError('quantize takes IN, OUT and a TYPE (quantize --help names the types)');
    const bar = progressBar('quantising');
    try {
      const report = await quantizeFile(input, output, type.toUpperCase() as QuantizeType, {
        embedding: tensorType(values, 'embedding'),
        head: tensorType(values, 'head'),
        imatrix: values['imatrix'] as string | undefined,
        force: values['force'] === true,
        allowRequantize: values['allow-requantize'] === true,
        threads: number(values, 'threads'),
        onProgress: bar,
        signal,
      });
      bar(1);
      if (values['json'] === true) console.log(JSON.stringify(report));
      else print(report);
    } finally {
      bar(1);
    }
    return 0;
  },
};

/** ggml's names mix cases (`q6_K`); here they may be written in any. */
function tensorType(values: Values, option: string): TensorType | undefined {
  const text = values[option] as string | undefined;
  return text === undefined ? undefined : (tensorTypes.find((type) => type.toLowerCase() === text.toLowerCase()) ?? (text as TensorType));
}

function print({ file, type, inputBytes, bytes, relativeError, lossless, tensors }: Quantization): void {
  const converted = tensors.filter(({ from, to }) => from !== to);
  const width = Math.max(0, ...converted.map(({ name }) => name.length));
  for (const { name, from, to, ...tensor } of converted) console.log(`${name.padEnd(width)}  ${from} → ${to}  ${loss(tensor)}`);
  const copied = tensors.length - converted.length;
  console.log(`${converted.length} tensors converted, ${copied} as they were`);
  console.log(`${file}: ${type}, ${mib(bytes)} (was ${mib(inputBytes)}), ${loss({ relativeError, lossless })}`);
}

function loss({ relativeError, lossless }: { readonly relativeError: number; readonly lossless: boolean }): string {
  return lossless ? 'lossless' : `relative error ${relativeError.toPrecision(2)}`;
}
