// @fugood/llama.node: the loop over tokens is in C++, prompts are text, and a model has one context.
//
// The native completion is called without a callback, which its types allow: the package's own `completion` always gives
// it one, and each token then costs a call into JavaScript and a parse of all the text so far.

import { Unsupported, promptId, serve, timed } from './serve.mjs';

// By default the binding drops the likeliest tokens one time in ten (XTC), at temperature 0 too. Of one candidate nothing
// can be dropped, and nothing else of the sampler costs time.
const GREEDY = { temperature: 0, top_k: 1, xtc_probability: 0, ignore_eos: true };

await serve('@fugood/llama.node', async ({ BuildInfo, loadModel }, { path, threads, context: contextSize }) => {
  const open = (sequences) =>
    loadModel({ model: path, n_ctx: contextSize * sequences, n_parallel: sequences, n_threads: threads, n_gpu_layers: 0 });
  const model = await open(1);
  // A prompt must not be empty, and a completion puts a begin token before it, so that there are two; a request that is
  // decoded together with others does not, and has one.
  const begin = await beginText(model);
  const prompts = new Map();
  let several;

  const complete = async (prompt, count, timedTokens) => {
    model.clearCache();
    return timed(timedTokens, () => model.ctx.completion({ ...GREEDY, prompt, n_predict: count }));
  };

  return {
    llama: `b${BuildInfo.number} (${BuildInfo.commit})`,
    system: model.getSystemInfo(),
    decode: async (count) => {
      const { tokensPerSecond, result } = await complete(begin, count, count);
      return { tokensPerSecond, text: result.text, prompt: result.timings.prompt_n };
    },
    prefill: async (count) => {
      if (!prompts.has(count)) {
        const { result } = await complete(begin, 1, 1);
        prompts.set(count, await textOf(model, count - (result.timings.prompt_n - 1)));
      }
      const { tokensPerSecond, result } = await complete(prompts.get(count), 1, count);
      if (result.timings.prompt_n !== count) throw new Error(`${result.timings.prompt_n} tokens of ${count} were computed`);
      return { tokensPerSecond };
    },
    sessions: async (count, tokens) => {
      if (several?.count !== count) {
        await several?.model.release();
        several = { count, model: await open(count) };
      }
      return together(several, begin, tokens);
    },
  };
});

async function beginText(model) {
  const id = Number(model.getModelInfo().metadata['tokenizer.ggml.bos_token_id']);
  const text = Number.isInteger(id) ? await model.detokenize([id]) : '';
  const { tokens } = await model.tokenize(text);
  if (tokens.length !== 1 || tokens[0] !== id) throw new Unsupported('prompts are text, and the begin token of this model has none');
  return text;
}

/** Text of so many tokens, made of words that are one token each. Reading it as tokens is part of the binding's work. */
async function textOf(model, count) {
  const words = [];
  for (let i = 0; words.length < count && i < 20000; i++) {
    const word = (await model.detokenize([promptId(i)])).trim();
    if (/^[a-z]{3,}$/.test(word) && (await model.tokenize(word)).tokens.length === 1) words.push(word);
  }
  const text = words.join(' ');
  const { length } = (await model.tokenize(text)).tokens;
  if (length !== count) throw new Unsupported(`prompts are text, and ${words.length} words of one token each make ${length} tokens, not ${count}`);
  return text;
}

async function together({ count, model }, begin, tokens) {
  await model.parallel.enable({ n_parallel: count });
  try {
    const { tokensPerSecond, result } = await timed(count * tokens, async () => {
      const requests = Array.from({ length: count }, () => model.parallel.completion({ ...GREEDY, prompt: begin, n_predict: tokens }));
      return Promise.all((await Promise.all(requests)).map(({ promise }) => promise));
    });
    const short = result.find(({ tokens_predicted: made }) => made !== tokens);
    if (short) throw new Error(`${short.tokens_predicted} tokens of ${tokens} were made`);
    return { tokensPerSecond, text: result[0].text, prompt: result[0].timings.prompt_n };
  } finally {
    model.parallel.disable();
    model.clearCache();
  }
}
