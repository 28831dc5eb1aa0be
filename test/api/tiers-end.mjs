// Ends its process, or the worker thread that does all this, while state is written and read. Exits with 7.
import { setTimeout as wait } from 'node:timers/promises';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { loadModel } from '../../dist/index.js';

const [how, diskDir, after] = isMainThread ? process.argv.slice(2) : workerData;
if (how === 'worker' && isMainThread) {
  const worker = new Worker(new URL(import.meta.url), { workerData: ['worker', diskDir, after] });
  worker.on('error', (error) => console.log(error));
  await new Promise((resolve) => worker.once('message', resolve));
  console.log('evicted');
  await wait(Number(after));
  await worker.terminate();
  process.exit(7);
}

const model = await loadModel('models/tern-5m-tq2_0.gguf', { devices: ['cpu'], threads: 1, context: 256, cache: { ramBytes: 0, diskBytes: 20_000_000, diskDir } });
const sessions = await Promise.all(Array.from({ length: 8 }, () => model.session()));
const ask = (session, i) =>
  session.chat(`Tell me a long story of the fox number ${i}, of all that he ate, of the river where he lived, and of his friends.`, { temperature: 0, ignoreEos: true, maxTokens: 30 });
for (const [i, session] of sessions.entries()) await ask(session, i);
const walk = async (session, i) => {
  for (let turn = 0; turn < 1000; ++turn) await ask(session, (i + turn) % 9).then(undefined, () => session.rewind(0));
};
for (const [i, session] of sessions.entries()) void walk(session, i).catch(() => {});
await wait(10);
if (model.cache.evictions === 0) throw new Error('nothing was evicted');
if (isMainThread) {
  console.log('evicted');
  await wait(Number(after));
  process.exit(7);
}
parentPort.postMessage('evicted');
