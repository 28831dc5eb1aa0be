// What a member predicts, through ternion.

import { readFileSync } from 'node:fs';

import { loadModel } from '../../dist/index.js';

const ROW = 2049;

const open = (path, context = 2048) => loadModel(path, { devices: ['cpu'], context });

/** Perplexity over the held-out rows of tokens (the padding at their ends left out). */
export async function perplexityOf(path, rowsFile, count) {
  const bytes = readFileSync(rowsFile);
  const tokens = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  const model = await open(path);
  let [loss, counted] = [0, 0];
  try {
    for (let row = 0; row < Math.min(count, tokens.length / ROW); row++) {
      let end = (row + 1) * ROW;
      while (tokens[end - 1] === tokens[end - 2]) end--;
      const ids = Int32Array.from(tokens.subarray(row * ROW, end)).subarray(0, ROW - 1);
      for (const score of await model.score(ids)) {
        loss -= score;
        counted++;
      }
    }
  } finally {
    await model.dispose();
  }
  return Math.exp(loss / counted);
}

/** Greedy text of each prompt (a text, or messages), and the ids of prompt and answer. */
export async function greedyOf(path, prompts, maxTokens) {
  const model = await open(path);
  const session = await model.session();
  const results = [];
  try {
    for (const prompt of prompts) {
      const options = { temperature: 0, maxTokens, logprobs: 1 };
      const chat = typeof prompt !== 'string';
      const { text, logprobs } = await (chat ? session.chat(prompt, options) : session.complete(prompt, options));
      const ids = await model.tokenize(chat ? await model.render(prompt) : prompt, { bos: true, special: chat });
      results.push({ text, prompt: [...ids], answer: logprobs.map(({ token }) => token) });
    }
  } finally {
    await model.dispose();
  }
  return results;
}

/** Share of the tokens of `greedy` (of {@link greedyOf}) that `path` would have chosen, too, each after the true ones before it. */
export async function acceptanceOf(path, greedy) {
  const model = await open(path);
  let [accepted, asked] = [0, 0];
  try {
    const { vocabulary } = model.info;
    for (const { prompt, answer } of greedy) {
      const logits = await model.logits([...prompt, ...answer]);
      answer.forEach((token, i) => {
        const at = (prompt.length + i - 1) * vocabulary;
        let best = 0;
        for (let id = 1; id < vocabulary; id++) if (logits[at + id] > logits[at + best]) best = id;
        accepted += best === token ? 1 : 0;
        asked++;
      });
    }
  } finally {
    await model.dispose();
  }
  return accepted / asked;
}

/** Largest difference between vectors of texts that are embedded together and alone. */
export async function batchVarianceOf(path, texts) {
  const model = await open(path);
  try {
    const together = await model.embed(texts);
    let worst = 0;
    for (const [i, text] of texts.entries()) {
      const [alone] = await model.embed([text]);
      alone.forEach((value, j) => (worst = Math.max(worst, Math.abs(value - together[i][j]))));
    }
    return worst;
  } finally {
    await model.dispose();
  }
}
