// Asks for something while the system has no thread to give: node no-threads-child.mjs WHAT. Says what came of it, and what works when there are
// threads again.
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { quantize } from '../../dist/gguf/index.js';
import { devices, loadModel } from '../../dist/index.js';

const options = { devices: ['cpu'], threads: 2, context: 256, packCache: false };
const open = () => loadModel('models/tern-5m-tq2_0.gguf', options);
const outcome = (promise) => Promise.resolve(promise).then(() => 'done', ({ code }) => code);
async function without(work, but = '0') {
  process.env.TERNION_TEST_NO_THREADS = but;
  const found = await outcome(work());
  delete process.env.TERNION_TEST_NO_THREADS;
  return found;
}

/** A load that gets so many threads beside its own. */
async function loading(more) {
  let set = false;
  const onProgress = () => {
    if (!set) process.env.TERNION_TEST_NO_THREADS = more;
    set = true;
  };
  const found = await outcome(loadModel('models/tern-5m-tq2_0.gguf', { ...options, threads: 4, onProgress }));
  delete process.env.TERNION_TEST_NO_THREADS;
  return found;
}

/** With four threads, each of which gets a part of every tensor. */
async function quantising(but) {
  await devices();
  const out = join(tmpdir(), `ternion-no-threads-${process.pid}.gguf`);
  const found = await without(() => quantize('models/tern-5m-f16.gguf', out, 'Q8_0', { threads: 4 }), but);
  rmSync(out, { force: true });
  return found;
}

const asks = {
  devices: () => without(() => devices()),
  load: async () => {
    await devices();
    return without(() => open());
  },
  'the engine of a load': () => loading('0'),
  'the engine of a load, but for one thread': () => loading('1'),
  tokenize: async () => {
    const model = await open();
    const found = await without(() => model.tokenize('x'));
    await model.dispose();
    return found;
  },
  chat: async () => {
    const model = await open();
    const session = await model.session();
    const found = await without(() => session.chat('Hello', { maxTokens: 3 }));
    await model.dispose();
    return found;
  },
  embed: async () => {
    const model = await open();
    const found = await without(() => model.embed(['x']));
    await model.dispose();
    return found;
  },
  dispose: async () => {
    const model = await open();
    return without(() => model.dispose());
  },
  quantize: () => quantising('0'),
  'quantize, but for its own thread': () => quantising('1'),
  'quantize, but for two threads': () => quantising('2'),
};

const found = await asks[process.argv[2]]();
const model = await open();
const { usage } = await (await model.session()).chat('Hello', { ignoreEos: true, maxTokens: 3 });
await model.dispose();
process.stdout.write(`${found}; ${usage.generated}`);
