// Does one thing again and again: node --expose-gc leaks-child.mjs WHAT COUNT. Says in JSON what this process held in bytes, ten times in equal
// distances: in memory of its own but for V8’s heap (`native`), and of objects on that heap (`used`).
import { readFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { getHeapStatistics } from 'node:v8';
import { Snapshot, loadModel } from '../../dist/index.js';

const [what, count] = [process.argv[2], Number(process.argv[3])];
const options = { devices: ['cpu'], threads: 1, context: 256, packCache: false };
const dense = 'models/tern-5m-tq2_0.gguf';
const greedy = { temperature: 0, ignoreEos: true, maxTokens: 4 };

/** Each is a way to use ternion after which everything should be as it was: what it needs, and what it does. */
const uses = {
  load: async () => async () => {
    const model = await loadModel(dense, options);
    await model.dispose();
  },
  'load and use': async () => async () => {
    const model = await loadModel(dense, options);
    const session = await model.session();
    await session.complete('Once', greedy);
    await model.embed(['a fox']);
    await model.dispose();
  },
  'load a mixture': async () => async () => (await loadModel('models/tern-moe-6m-tq2_0.gguf', options)).dispose(),
  'load a hybrid': async () => async () => (await loadModel('models/tern-hybrid-random.gguf', options)).dispose(),
  'abort a load': async () => async () => {
    const abort = new AbortController();
    await loadModel(dense, { ...options, signal: abort.signal, onProgress: () => abort.abort() }).then((model) => model.dispose(), () => {});
  },
  generate: async () => {
    const model = await loadModel(dense, options);
    const session = await model.session();
    return (i) => session.complete(`Once ${i % 100}`, greedy);
  },
  sessions: async () => {
    const model = await loadModel(dense, options);
    return async (i) => {
      const session = await model.session();
      await session.chat(`Hello ${i % 100}`, { ...greedy, logprobs: 2, stop: 'x', grammar: 'root ::= [a-z ]*' });
      const fork = await session.fork();
      await fork.complete('Once', greedy);
      const snapshot = await session.snapshot();
      const other = await Snapshot.deserialize(await snapshot.serialize());
      await fork.restore(other);
      await Promise.all([fork.dispose(), session.dispose(), snapshot.dispose(), other.dispose()]);
    };
  },
  abort: async () => {
    const model = await loadModel(dense, options);
    const session = await model.session();
    return async () => {
      const abort = new AbortController();
      const running = session.complete('Once', { temperature: 0, ignoreEos: true, signal: abort.signal });
      for await (const chunk of running) {
        if (chunk.type === 'text') break;
      }
    };
  },
};

/** Gives back what is free: V8's by collecting it, the allocator's, which disposing of a model does. */
async function held() {
  const model = await loadModel(dense, options);
  await model.dispose();
  for (let i = 0; i < 3; i++) {
    await wait(20);
    globalThis.gc();
  }
  const anonymous = Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
  const { total_physical_size: heap, used_heap_size: used } = getHeapStatistics();
  return { native: anonymous - heap, used };
}

const once = await uses[what]();
const samples = [];
for (let i = 0; i < count; i++) {
  await once(i);
  if ((i + 1) % (count / 10) === 0) samples.push(await held());
}
console.log(JSON.stringify(samples));
process.exit(0);
