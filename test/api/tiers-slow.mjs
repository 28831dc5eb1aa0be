// One session decodes without an end while others evict one another to a slow disk, and come back from there. Says the longest time
// in ms between two looks at which the first one had not got on.
import { loadModel } from '../../dist/index.js';
import { setTimeout as wait } from 'node:timers/promises';

const model = await loadModel('models/tern-5m-tq2_0.gguf', {
  devices: ['cpu'], threads: 1, context: 4096, kvTokens: 4096, spareSequences: 1, sequences: 2, cache: { ramBytes: 0, diskBytes: 60_000_000, diskDir: process.argv[2] },
});
const steady = await model.session();
const abort = new AbortController();
let [tokens, longest, last] = [0, 0, 0];
const decoding = (async () => {
  while (!abort.signal.aborted) {
    const generation = steady.complete('Once upon a time', { temperature: 0, ignoreEos: true, maxTokens: 600, signal: abort.signal });
    try {
      for await (const chunk of generation) {
        if (chunk.type !== 'text') continue;
        const now = performance.now();
        longest = Math.max(longest, last === 0 ? 0 : now - last);
        last = now;
        tokens++;
      }
    } catch {
      return;
    }
  }
})();
while (last === 0) await wait(1);

const others = await Promise.all([0, 1, 2].map((i) => model.session({ system: `You are story teller ${i}, and you speak of nothing but foxes, bears, apples, rivers, towers and small boats all day long, in many words.` })));
const ask = (i) => others[i].chat('Go on with your story, please, and tell me what happened then, and why.', { temperature: 0, ignoreEos: true, maxTokens: 5 });
let writing = 0;
for (const i of [0, 1, 2]) {
  await ask(i);
  writing = Math.max(writing, model.cache.disk.writing);
}
for (const end = performance.now() + 60_000; model.cache.disk.writing > 0 && performance.now() < end; ) await wait(20);
const before = model.cache.restores;
let waited = 0;
for (const i of [0, 1, 2]) {
  const asked = performance.now();
  await ask(i);
  waited = Math.max(waited, performance.now() - asked);
}
const restores = model.cache.restores - before;
abort.abort();
await decoding;
console.log(JSON.stringify({ writing, restores, tokens, longest, waited }));
await model.dispose();
