// The addon in several threads of one process: node threads-child.mjs HOW. Says in JSON what each generated.
import { createRequire } from 'node:module';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { loadModel } from '../../dist/index.js';

const path = 'models/tern-5m-tq2_0.gguf';
const options = { devices: ['cpu'], context: 512, sequences: 2, packCache: false };

/** `times` texts, two at a time, from a model of its own. */
async function generate(times) {
  const model = await loadModel(path, options);
  const sessions = [await model.session(), await model.session()];
  const texts = [];
  for (let i = 0; i < times; i++) {
    const both = await Promise.all(sessions.map((session) => session.complete('Once upon a time', { temperature: 0, ignoreEos: true, maxTokens: 30 })));
    texts.push(...both.map(({ text }) => text));
  }
  await model.dispose();
  return texts;
}

const inWorker = (times, end = 'normally') =>
  new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: { times, end } });
    let texts = [];
    worker.on('message', (message) => (message === 'terminate' ? void worker.terminate() : (texts = message)));
    worker.on('error', reject);
    worker.on('exit', () => resolve(texts));
  });

const ways = {
  'two workers': () => Promise.all([inWorker(4), inWorker(4)]),
  'main and worker': () => Promise.all([generate(4), inWorker(4)]),
  'one after the other': async () => [await inWorker(1), await inWorker(1), await generate(1), await inWorker(1)],
  'others end': async () => {
    const mine = generate(12);
    const ended = [];
    for (let i = 0; i < 4; i++) ended.push(inWorker(1), inWorker(1, 'in the middle'));
    await Promise.all(ended);
    return [await mine, await inWorker(1)];
  },
  'loaded again': async () => {
    const first = await generate(1);
    const require = createRequire(import.meta.url);
    for (const file of Object.keys(require.cache)) delete require.cache[file];
    const again = await import('../../dist/addon.js?again'); // another copy of what holds the addon
    if (Object.keys(require.cache).some((file) => file.endsWith('ternion.node'))) throw new Error('the addon is in the cache still');
    if (!again.buildInfo().llama) throw new Error('no build');
    return [first, await generate(1)];
  },
};

if (isMainThread) {
  process.stdout.write(JSON.stringify(await ways[process.argv[2]]()));
} else {
  const { times, end } = workerData;
  if (end === 'in the middle') {
    const model = await loadModel(path, options);
    const session = await model.session();
    for await (const text of session.complete('Once', { temperature: 0, ignoreEos: true }).text()) if (text !== '') parentPort.postMessage('terminate');
  }
  parentPort.postMessage(await generate(times));
}
