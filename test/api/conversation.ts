// What the tests of sessions share. Texts are compared, and batches of another shape round differently: what is said here is what the
// model is sure of, its second choice being a hundred times less likely at every token.
import { isTernionError, loadModel } from '../../dist/index.js';
import type { ChatOptions, LoadOptions, Message, Model, Session, TernionError } from '../../dist/index.js';

export const dense = 'models/tern-5m-tq2_0.gguf';
export const hybrid = 'models/tern-hybrid-random.gguf';
export const twin = 'models/tern-5m-f16.gguf';
export const greedy = { temperature: 0 } as const;
export const system = 'You are a helpful assistant.';

/** A conversation whose later answers depend on its first turn, and what is said in it. */
export const facts = 'Please remember: Rosa lives in Athens. The yellow card opens box 12. The hamster of Rufus is called Steasbrushhesh.';
export const asked = [facts, 'What is the hamster of Rufus called?', 'Where does Rosa live?', 'Which box does the yellow card open?'] as const;
export const said = ['I will remember that.', 'The hamster of Rufus is called Steasbrushhesh.', 'Rosa lives in Athens.', 'The yellow card opens box 12.'] as const;

/** The twin's answer of 200 tokens that is sure enough. */
export const lengthy = { prompt: 'What is 2 + 2?', options: { ...greedy, ignoreEos: true, maxTokens: 200 } } as const;

export const open = (options: LoadOptions = {}, path = dense): Promise<Model> => loadModel(path, { devices: ['cpu'], context: 512, ...options });

export const user = (content: string): Message => ({ role: 'user', content });

/** Questions in turn; the answers' texts. */
export async function talk(session: Session, questions: readonly string[], options: ChatOptions = greedy): Promise<string[]> {
  const texts = [];
  for (const question of questions) texts.push((await session.chat(question, options)).text);
  return texts;
}

/** What a model says to a conversation of which it has nothing in its cache. */
export async function afresh(model: Model, messages: readonly Message[], options: ChatOptions = greedy): Promise<string> {
  await model.trimCache();
  const session = await model.session();
  const { text, usage } = await session.chat(messages, options);
  if (usage.cached > 0) throw new Error(`${usage.cached} tokens came from the cache`);
  await session.dispose();
  await model.trimCache();
  return text;
}

/** Cells of all nodes of the tree of prefixes. */
export const treeCells = (model: Model): number => model.cache.prefixes.reduce((total, node) => total + node.tokens, 0);

/** How something fails; that it does. */
export async function failure(promise: PromiseLike<unknown>): Promise<TernionError> {
  try {
    await promise;
  } catch (error) {
    if (isTernionError(error)) return error;
    throw error;
  }
  throw new Error('it did not fail');
}
