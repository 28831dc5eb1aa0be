// node-llama-cpp: the loop over tokens is in JavaScript.
//
// Of its ways to decode, iterating a sequence is taken. LlamaCompletion is a loop around the same iterator, with a stop
// detector and detokenising per token, for up to 4 % more processor time per token on shape S, and cannot be told to go
// on after the end token. controlledEvaluate takes 20 % more, for it makes a sampler per call.

import { promptId, serve, timed } from './serve.mjs';

// Goes on after an end token where our ignoreEos forbids it: the texts differ once that token is the likeliest. On random
// weights they also differ sooner or later by rounding, for its binaries are built for other processors than ours.
const GREEDY = { temperature: 0, yieldEogToken: true };

await serve('node-llama-cpp', async ({ getLlama }, { path, threads, context: contextSize }) => {
  // Without a limit of its own the binding gives each decode the context's number of threads.
  const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, maxThreads: 0 });
  const model = await llama.loadModel({ modelPath: path, gpuLayers: 0 });
  const open = async (sequences) => {
    const context = await model.createContext({ contextSize, sequences, threads });
    return { sequences: Array.from({ length: sequences }, () => context.getSequence()), close: () => context.dispose() };
  };
  const [sequence] = (await open(1)).sequences;
  const begin = model.tokens.bos;
  let several;

  // Step by step together: of 4 sequences that are iterated on their own 2.9 meet in a batch on average, which takes a
  // fifth more processor time per token.
  const greedy = async (sequences, count) => {
    const iterators = sequences.map((each) => each.evaluateWithMetadata([begin], {}, GREEDY));
    const tokens = sequences.map(() => []);
    for (let i = 0; i < count; i++) {
      const steps = await Promise.all(iterators.map((iterator) => iterator.next()));
      for (const [j, { value }] of steps.entries()) tokens[j].push(value.token);
    }
    const texts = tokens.map((each) => model.detokenize(each)); // without the space that the first begins with
    await Promise.all(iterators.map((iterator) => iterator.return()));
    return texts;
  };

  const decode = async (sequences, count) => {
    for (const each of sequences) await each.clearHistory();
    const { tokensPerSecond, result } = await timed(sequences.length * count, () => greedy(sequences, count));
    return { tokensPerSecond, text: result[0], prompt: 1 };
  };

  return {
    llama: llama.llamaCppRelease.release,
    system: llama.systemInfo,
    decode: (count) => decode([sequence], count),
    prefill: async (count) => {
      await sequence.clearHistory();
      const tokens = Array.from({ length: count }, (_, i) => promptId(i));
      const iterator = sequence.evaluateWithMetadata(tokens, {}, GREEDY);
      const { tokensPerSecond } = await timed(count, () => iterator.next());
      await iterator.return();
      return { tokensPerSecond };
    },
    sessions: async (count, tokens) => {
      if (several?.sequences.length !== count) {
        await several?.close();
        several = await open(count);
      }
      return decode(several.sequences, tokens);
    },
  };
});
