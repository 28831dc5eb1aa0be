// Does what argv[2] names, in a process that somebody confined; says how that went: `ok`, or a code and a message.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildInfo, devices, loadModel } from '../../dist/index.js';

const path = fileURLToPath(new URL('../../models/tern-5m-tq2_0.gguf', import.meta.url));
const [what, place, exact] = process.argv.slice(2);
const greedy = { temperature: 0, maxTokens: 8 };

const load = (options = {}) => loadModel(path, { devices: ['cpu'], context: 256, ...options });

async function generate(options) {
  const model = await load(options);
  const session = await model.session();
  const { text } = await session.complete('Once upon a time', greedy);
  await model.dispose();
  return { text };
}

const work = {
  generate,
  gpu: () => generate({ devices: ['vulkan0'] }),
  devices: async () => {
    const list = await devices();
    return { devices: list.map(({ id }) => id), unavailable: list.unavailable };
  },
  measure: async () => {
    const [cpu] = await devices({ measure: true });
    if (!(cpu.readBytesPerSecond > 0)) throw new Error('not measured');
  },
  known: async () => ({ bytesPerSecond: (await devices())[0].readBytesPerSecond }),
  'few-files': async () => {
    buildInfo(); // the addon is read by now
    const limit = readdirSync('/proc/self/fd').length - 1 + Number(place);
    execFileSync('prlimit', ['--pid', String(process.pid), `--nofile=${limit}`]);
    await generate();
  },
  snapshot: async () => {
    const model = await load({ context: 1024 });
    const session = await model.session();
    await session.complete('The fox went over the river. '.repeat(60), greedy);
    const snapshot = await session.snapshot();
    try {
      await snapshot.save(join(place, 'conversation.ternion'));
    } catch (error) {
      error.left = readdirSync(place).join(' ');
      throw error;
    } finally {
      await model.dispose();
    }
  },
  // Two conversations with room for one: each goes to disk while the other runs, where there is a disk.
  evict: async () => {
    const diskDir = place === undefined ? undefined : exact === 'exact' ? undefined : join(place, 'a/b');
    const model = await load({ context: 512, kvTokens: 512, spareSequences: 0, cache: { ramBytes: 0, diskBytes: 2 ** 26, ...(diskDir !== undefined && { diskDir }), ...(exact === 'exact' && { diskDir: place }) } });
    const [one, other] = [await model.session(), await model.session()];
    const story = 'The fox went over the river. '.repeat(30);
    const first = await one.complete(story, greedy);
    await other.complete(`A bear. ${story}`, greedy);
    const second = await one.complete(story, greedy);
    if (first.text !== second.text) throw new Error(`${first.text} is not ${second.text}`);
    await model.dispose();
  },
  'address-space': async () => {
    const model = await load({ context: 4096, sequences: 4, cache: { ramBytes: 2 ** 26 } });
    try {
      const sessions = await Promise.all([1, 2, 3, 4].map(() => model.session()));
      await Promise.all(sessions.map((session, i) => session.complete(`${i} fox went over the river `.repeat(200), greedy)));
      await model.embed(Array.from({ length: 20 }, (_, i) => `the fox ${i} `.repeat(20)));
      await sessions[0].snapshot();
    } finally {
      await model.dispose();
    }
  },
};

let outcome;
try {
  outcome = { said: 'ok', ...(await work[what]()) };
} catch (error) {
  outcome = { said: `${error.code ?? error.name} ${error.message}`, ...(error.left !== undefined && { generated: `left: ${error.left}` }) };
}
if (place !== undefined && what !== 'few-files' && !existsSync(place)) outcome.said += ' (its folder is gone)';
console.log(JSON.stringify(outcome));
