/** `ternion generate [PROMPT]`: continues a text. */
import { text as readAll } from 'node:stream/consumers';
import type { Result } from '../chunk.js';
import { generateOptions, parse, common, loading, sampling, UsageError } from './options.js';
import { figures, openModel, progressBar } from './terminal.js';

const help = `ternion generate [PROMPT | -] [options]

Continues PROMPT (- reads it from stdin) and prints the text, then one line of figures on stderr.
Without a prompt it tells a story, by the model that comes with ternion.

  -m, --model FILE      GGUF file (default: the embedded model)
  --device ID           where to run; may be given several times (default: first GPU, else cpu)
  --gpu-layers N   --cpu-experts N|all   --context N   --threads N   --kv TYPE
  --ubatch N   --flash-attention auto|on|off
  --max-tokens N   --temperature X   --top-k N   --top-p X   --min-p X   --repeat-penalty X   --seed N
  --stop TEXT           may be given several times
  --ignore-eos
  --json                one JSON object: { prompt, text, reason, seed, usage, device }
  --verbose             the engine's log on stderr`;

export const generate = {
  help,
  async run(args: string[], signal: AbortSignal): Promise<number> {
    const { values, positionals } = parse(args, { ...common, ...loading, ...sampling });
    if (positionals.length > 1) throw new UsageError(`one PROMPT at most; found ${positionals.length} (quote it)`);
    const given = positionals[0];
    const prompt = given === '-' ? await readAll(process.stdin) : (given ?? 'Once upon a time');
    const options = generateOptions(values);
    await using model = await openModel(values, signal);
    const session = await model.session();
    const generation = session.complete(prompt, { ...(given === undefined && { temperature: 0.7 }), ...defined(options), signal });
    const json = values['json'] === true;
    const bar = progressBar('prefill');
    if (!json) process.stdout.write(prompt);
    let result: Result;
    try {
      for await (const chunk of generation) {
        if (chunk.type === 'progress') bar(chunk.done / chunk.total);
        if (chunk.type === 'text' && !json) process.stdout.write(chunk.text);
      }
      result = await generation;
    } finally {
      bar(1);
      if (!json) process.stdout.write('\n');
    }
    if (json) {
      const { text, reason, seed, usage } = result;
      console.log(JSON.stringify({ prompt, text, reason, seed, usage, device: model.placement.devices[0]?.device }));
    } else {
      process.stderr.write(`${figures(result, model)}\n`);
    }
    return 0;
  },
};

function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}
