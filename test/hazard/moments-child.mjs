// Comes to a moment of a model's life and ends there: node moments-child.mjs MOMENT END FOLDER, on the main thread or, where END says so, in a
// worker thread. Says 'here' once it is at the moment. FOLDER/load.gguf takes a while to load.
import { setImmediate } from 'node:timers';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { loadModel, plan } from '../../dist/index.js';

const [moment, end, folder] = isMainThread ? process.argv.slice(2) : workerData;
const path = 'models/tern-5m-tq2_0.gguf';
const long = 'The fox looked at the river. '.repeat(200);
const endless = { temperature: 0, ignoreEos: true };
const options = { devices: ['cpu'], context: 2048, sequences: 2, packCache: false };

/** Each calls `now` in the middle of what it is named after. */
const moments = {
  load: (now) => loadModel(`${folder}/load.gguf`, { ...options, mmap: false, onProgress: once(now) }),
  prefill: async (now) => {
    const { session } = await opened();
    for await (const chunk of session.complete(long, endless)) if (chunk.type === 'progress') now();
  },
  decode: async (now) => {
    const { session } = await opened();
    for await (const chunk of session.complete('Once', endless)) if (chunk.type === 'text') now();
  },
  dispose: async (now) => {
    const { model, session } = await opened();
    const running = session.complete('Once', endless);
    running.then(undefined, () => {});
    for await (const text of running.text()) if (text !== '') break;
    void model.dispose();
    now();
  },
  disposed: async (now) => {
    const { model } = await opened();
    await model.dispose();
    now();
  },
  'snapshot write': async (now) => {
    const { session } = await opened();
    await session.complete(long, { ...endless, maxTokens: 1 });
    const snapshot = await session.snapshot();
    for (let i = 0; i < 8; i++) void snapshot.save(`${folder}/${process.pid}-${i}.snapshot`).catch(() => {});
    now();
  },
  capture: async (now) => {
    const { session } = await opened();
    await session.complete(long, { ...endless, maxTokens: 1 });
    void session.snapshot().catch(() => {});
    now();
  },
  embed: async (now) => {
    const { model } = await opened();
    void model.embed(Array.from({ length: 64 }, () => long)).catch(() => {});
    setTimeout(now, 20);
  },
  tokenize: async (now) => {
    const { model } = await opened();
    void model.tokenize(long.repeat(200)).catch(() => {});
    setTimeout(now, 2);
  },
  unload: async (now) => {
    const { model, session } = await opened();
    await session.complete(long, { ...endless, maxTokens: 1 });
    void model.unload().catch(() => {});
    now();
  },
  plan: async (now) => {
    void plan(`${folder}/load.gguf`, options).catch(() => {});
    setTimeout(now, 20);
  },
};

/** Each ends the thread or the process, or has it ended. */
const ends = {
  exit: () => process.exit(7),
  error: () => { throw new Error('of the app'); },
  rejection: () => void Promise.reject(new Error('of the app')),
  SIGINT: () => process.kill(process.pid, 'SIGINT'),
  SIGTERM: () => process.kill(process.pid, 'SIGTERM'),
  'SIGINT, which the app handles': () => {
    setTimeout(() => {}, 60_000); // or a process that has nothing left to do is faster
    process.kill(process.pid, 'SIGINT');
  },
  'error in a callback': () => { throw new Error('of the app'); },
  'error in a callback, which the app handles': () => { throw new Error('of the app'); },
  'worker terminated': () => {
    setTimeout(() => {}, 60_000); // likewise
    parentPort.postMessage('terminate');
  },
  'worker exits': () => process.exit(7),
  'worker throws': () => { throw new Error('of the app'); },
};

async function opened() {
  const model = await loadModel(path, options);
  return { model, session: await model.session() };
}

function once(work) {
  let done = false;
  return () => { if (!done) { done = true; work(); } };
}

if (end.startsWith('worker') && isMainThread) {
  const worker = new Worker(new URL(import.meta.url), { workerData: [moment, end, folder] });
  let error = '';
  worker.on('error', ({ message }) => (error = message));
  worker.on('message', (message) => (message === 'terminate' ? void worker.terminate() : process.stdout.write(message)));
  const code = await new Promise((resolve) => worker.once('exit', resolve));
  // The addon still works for those who stay.
  const { model, session } = await opened();
  const { usage } = await session.complete('Once', { ...endless, maxTokens: 3 });
  await model.dispose();
  process.stdout.write(` ended ${code} ${error}; ${usage.generated}`);
} else {
  if (end === 'SIGINT, which the app handles') process.once('SIGINT', () => process.exit(8));
  if (end === 'error in a callback, which the app handles') process.once('uncaughtException', ({ message }) => process.stdout.write(`, ${message}`));
  const here = once(() => {
    if (isMainThread) process.stdout.write('here');
    else parentPort.postMessage('here');
    // Out of whatever called: an error shall be the app's, not the one of a callback or a promise of ours.
    if (end === 'error' || end === 'worker throws') setImmediate(ends[end]);
    else ends[end]();
  });
  const left = await moments[moment](here);
  if (left !== undefined) {
    process.stdout.write(', went on');
    await left.dispose();
  }
}
