/** `ternion experts MODEL --prompt FILE`. */
import { readFile, writeFile } from 'node:fs/promises';
import { text as readAll } from 'node:stream/consumers';
import { TernionError } from '../errors.js';
import { loadModel } from '../load.js';
import { heatMap, terminalMap } from './heat-map.js';
import { common, loadOptions, loading, number, parse, UsageError } from './options.js';

const mebibyte = 2 ** 20;

export const experts = {
  help: `ternion experts MODEL --prompt FILE [options]

Which experts of a mixture the tokens of a text, and of its continuation, are routed to: a heat map of layers and experts.

  --prompt FILE         the text (- reads it from stdin)
  --max-tokens N        tokens to go on for (64)
  --svg FILE            the heat map as a picture
  --expert-cache N      MiB of device memory for experts in recent use, with --cpu-experts: tells hits and bytes moved, too
  --device ID   --cpu-experts N|all   --context N   --threads N   --kv TYPE
  --json                { model, prompt: { file, tokens }, generated, experts: as model.experts has it }`,
  async run(args: string[], signal: AbortSignal): Promise<number> {
    const { values, positionals } = parse(args, { ...common, ...loading, prompt: { type: 'string' }, 'max-tokens': { type: 'string' }, svg: { type: 'string' }, 'expert-cache': { type: 'string' } });
    const path = positionals[0] ?? (values['model'] as string | undefined);
    const file = values['prompt'] as string | undefined;
    if (path === undefined || positionals.length > 1 || file === undefined) throw new UsageError('experts takes one MODEL and --prompt FILE');
    const prompt = await (file === '-' ? readAll(process.stdin) : readText(file));
    const cache = number(values, 'expert-cache');
    await using model = await loadModel(path, { ...loadOptions(values), countExperts: true, ...(cache !== undefined && { expertCache: { deviceBytes: cache * mebibyte } }), signal });
    if (model.info.experts === 0) throw new TernionError('ERR_MODEL_UNSUPPORTED', `${path} is no mixture: it has no routed experts`);
    const session = await model.session();
    const { usage } = await session.complete(prompt, { maxTokens: number(values, 'max-tokens') ?? 64, temperature: 0, signal });
    const found = model.experts!;
    const note = `${usage.prompt} tokens of a prompt and ${usage.generated} that followed`;
    if (values['svg'] !== undefined) await writeFile(values['svg'] as string, heatMap(found.layers, `${model.info.name}: routed experts`, note));
    if (values['json'] === true) {
      console.log(JSON.stringify({ model: model.info.name, prompt: { file, tokens: usage.prompt }, generated: usage.generated, experts: found }));
      return 0;
    }
    console.log(`${model.info.name}: ${note}\n\n${terminalMap(found.layers)}`);
    if (cache !== undefined) {
      const rate = found.hitRate === undefined ? 'no step was divided yet' : `${(100 * found.hitRate).toFixed(1)} % of the products that were divided were the device's`;
      console.log(`\n${rate}; ${found.uploads} uploads, ${(found.uploadedBytes / mebibyte).toFixed(1)} MiB`);
    }
    return 0;
  },
};

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new UsageError(`--prompt ${file}: ${(cause as Error).message}`);
  }
}
