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

/** A load of a file that a load has checked before: its own thread, its engine's, and three workers beside that one. */
async function again(but) {
  const load = async () => (await loadModel('models/tern-5m-tq2_0.gguf', { ...options, threads: 4 })).dispose();
  await load();
  return without(load, but);
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
  // One after the other, each of which checks a tensor.
  'load, but for twenty threads': async () => {
    await devices();
    return without(() => open(), '20');
  },
  'load again': () => again('0'),
  'load again, but for one thread': () => again('1'),
  'load again, but for two threads': () => again('2'),
  'load again, but for three threads': () => again('3'),
  'load again, but for four threads': () => again('4'),
  'load again, but for five threads': () => again('5'),
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
