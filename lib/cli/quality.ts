/** `ternion perplexity MODEL TEXT`, `ternion compare A B TEXT`. */
import { readFile } from 'node:fs/promises';
import { loadModel } from '../load.js';
import type { LoadOptions } from '../load.js';
import type { Model } from '../model.js';
import { compare as compareModels } from '../quality/compare.js';
import { perplexity as measure } from '../quality/perplexity.js';
import { common, loadOptions, loading, number, parse, UsageError } from './options.js';
import { progressBar } from './terminal.js';

const { device, 'gpu-layers': gpuLayers, threads, kv, context } = loading;
const options = { ...common, device, 'gpu-layers': gpuLayers, threads, kv, context } as const;
const shared = `
  --context N           tokens of a chunk, of which the second half counts (default 512)
  --device ID   --gpu-layers N   --threads N   --kv TYPE
  --json`;

export const perplexity = {
  help: `ternion perplexity MODEL TEXT [options]

Perplexity of the text file TEXT, as llama.cpp's llama-perplexity computes it.
${shared}                { perplexity, standardError, tokens, chunks }`,
  async run(args: string[], signal: AbortSignal): Promise<number> {
    const { values, positionals } = parse(args, options);
    const [file, textFile] = positionals;
    if (file === undefined || textFile === undefined || positionals.length > 2) throw new UsageError('perplexity takes a MODEL and a TEXT file');
    const text = await readText(textFile);
    await using model = await loadModel(file, { ...loadOptions({ ...values, context: undefined }), context: 512, signal });
    const bar = progressBar('perplexity');
    try {
      const result = await measure(model, text, { context: number(values, 'context'), onProgress: bar, signal });
      bar(1);
      if (values['json'] === true) console.log(JSON.stringify(result));
      else console.log(`perplexity ${result.perplexity.toFixed(4)} ± ${result.standardError.toFixed(5)}   (${result.tokens} tokens in ${result.chunks} chunks)`);
    } finally {
      bar(1);
    }
    return 0;
  },
};

export const compare = {
  help: `ternion compare A B TEXT [options]

How much model B differs from model A in what it predicts over the text file TEXT: Kullback-Leibler divergence, agreement on
the most likely token, squared error of the logits, both perplexities. A and B may be one file: --device-b and --kernels-b then say
where and how B runs.

  --device-b ID         device of B (default: that of A)
  --kernels NAME        CPU kernels of A and B, in place of TERNION_KERNEL; float32 is the reference, which rounds no activations
  --kernels-b NAME      those of B
${shared}                { divergence, divergenceStandardError, largestDivergence, squaredError, squaredErrorStandardError, topAgreement,
                          perplexityA, perplexityB, logRatio, logRatioStandardError, tokens, chunks, kernelsA, kernelsB }`,
  async run(args: string[], signal: AbortSignal): Promise<number> {
    const { values, positionals } = parse(args, { ...options, 'device-b': { type: 'string', multiple: true }, kernels: { type: 'string' }, 'kernels-b': { type: 'string' } });
    const [fileA, fileB, textFile] = positionals;
    if (fileA === undefined || fileB === undefined || textFile === undefined || positionals.length > 3) throw new UsageError('compare takes two models, A and B, and a TEXT file');
    const text = await readText(textFile);
    const load = { ...loadOptions({ ...values, context: undefined }), context: 512, signal };
    const kernels = values['kernels'] as string | undefined;
    await using a = await loadWith(kernels, fileA, load);
    await using b = await loadWith((values['kernels-b'] as string | undefined) ?? kernels, fileB, { ...load, devices: (values['device-b'] as string[] | undefined) ?? load.devices });
    const [kernelsA, kernelsB] = [a.placement.kernels, b.placement.kernels];
    const bar = progressBar('comparing');
    try {
      const result = await compareModels(a, b, text, { context: number(values, 'context'), onProgress: bar, signal });
      bar(1);
      if (values['json'] === true) {
        console.log(JSON.stringify({ ...result, kernelsA, kernelsB }));
        return 0;
      }
      console.log(`divergence      ${result.divergence.toExponential(3)} ± ${result.divergenceStandardError.toExponential(1)} nats, at most ${result.largestDivergence.toExponential(2)}`);
      console.log(`top token       ${(100 * result.topAgreement).toFixed(2)} % the same`);
      console.log(`squared error   ${result.squaredError.toExponential(3)} ± ${result.squaredErrorStandardError.toExponential(1)} of the logits`);
      console.log(`perplexity      A ${result.perplexityA.toFixed(4)}   B ${result.perplexityB.toFixed(4)}   ln(B/A) ${result.logRatio.toExponential(2)} ± ${result.logRatioStandardError.toExponential(1)}`);
      console.log(`                ${result.tokens} tokens in ${result.chunks} chunks; kernels of A: ${kernelsA}, of B: ${kernelsB}`);
    } finally {
      bar(1);
    }
    return 0;
  },
};

async function loadWith(kernels: string | undefined, path: string, options: LoadOptions): Promise<Model> {
  if (kernels !== undefined) process.env['TERNION_KERNEL'] = kernels;
  return loadModel(path, options);
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${(error as Error).message}`);
  }
}
