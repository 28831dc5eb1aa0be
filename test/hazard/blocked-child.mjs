// Generations while JavaScript does nothing for a time: node blocked-child.mjs MS. Says in JSON what came of them, and whether it is what comes
// without.
import { loadModel } from '../../dist/index.js';

const model = await loadModel('models/tern-5m-f16.gguf', { devices: ['cpu'], context: 512, sequences: 3 });
// An answer that the model is sure of, whatever the batch it is computed in (`lengthy` of test/api/conversation.ts).
const ask = (session, signal) => session.chat('What is 2 + 2?', { temperature: 0, ignoreEos: true, maxTokens: 200, signal });
const sessions = [await model.session(), await model.session(), await model.session()];
const right = (await ask(await model.session())).text;

const abort = new AbortController();
const [awaited, iterated, aborted] = sessions.map((session, i) => ask(session, i === 2 ? abort.signal : undefined));
for (const one of [awaited, aborted]) one.then(undefined, () => {});
let read = '';
const reading = (async () => {
  for await (const text of iterated.text()) read += text;
})();
const block = (ms) => {
  const end = performance.now() + ms;
  while (performance.now() < end);
};
const tick = new Promise((resolve) => setTimeout(resolve, 1));
const before = model.stats().decodeTokens;
block(50);
abort.abort();
block(Number(process.argv[2]));
const meanwhile = model.stats().decodeTokens - before;
await tick;
const code = await aborted.then(() => 'none', (error) => error.code);
const { text, usage } = await awaited;
await reading;
await model.dispose();
console.log(JSON.stringify({ meanwhile, code, generated: usage.generated, same: [text === right, read === right] }));
