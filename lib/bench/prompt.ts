/**
 * Texts of an exact number of tokens.
 */
import { TernionError } from '../errors.js';
import type { Model } from '../model.js';

const words = `time year people way day man thing woman life child world school state family student group country problem hand
part place case week company system program question work government number night point home water room mother area money
story fact month lot right study book eye job word business issue side kind head house service friend father power hour game
line end member law car city community name president team minute idea kid body information back parent face others level
office door health person art war history party result change morning reason research girl guy moment air teacher force`.split(/\s+/);

const longestOff = 16;

/** The shortest prompt: nothing where the vocabulary begins texts with a token of its own, else one word. */
export async function beginning(model: Model): Promise<string> {
  return (await count(model, '')) > 0 ? '' : 'The';
}

/**
 * A text that the model's tokenizer turns into exactly `tokens` tokens, begin token included. Different seeds begin with different words.
 */
export async function textOf(model: Model, tokens: number, seed: number): Promise<string> {
  let state = (seed * 2654435761 + 12345) >>> 0;
  const word = (): string => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return words[(state >>> 8) % words.length] as string;
  };
  let text = word();
  while ((await count(model, text)) < tokens) text += ` ${Array.from({ length: Math.max(1, tokens >> 3) }, word).join(' ')}`;
  // Cut after a token and count again: some vocabularies put a space before a text, and a cut inside a word may be merged
  // with what comes before it.
  const ids = await model.tokenize(text, { bos: true });
  for (let off = 0; off <= longestOff; off++) {
    for (const length of [tokens - off, tokens + off]) {
      const cut = (await model.detokenize(ids.subarray(0, length))).trim();
      if ((await count(model, cut)) === tokens) return cut;
    }
  }
  throw new TernionError('ERR_INTERNAL', `no text of exactly ${tokens} tokens was found with the vocabulary of ${model.path}`);
}

async function count(model: Model, text: string): Promise<number> {
  return (await model.tokenize(text, { bos: true })).length;
}
