// One addon of bench/package.mjs, in a process of its own: it loads the one that TERNION_ADDON names and takes samples when told to.

import { buildInfo, loadModel } from '../dist/index.js';
import { Subject } from '../dist/bench/subject.js';

const [, , path, embedded] = process.argv;
const texts = new Map(); // greedy text is the same in all samples of a test
const settings = { devices: ['cpu'], threads: 2 };
const subject = await Subject.open(path, { ...settings, context: 1024, sequences: 1, texts });

process.on('message', async ({ test, tokens }) => {
  texts.clear();
  process.send({ value: test === 'decode' ? await subject.decodeInEngine(tokens) : await subject.prefill(tokens) });
});
process.on('disconnect', () => process.exit());

const model = await loadModel(embedded, { ...settings, context: 256 });
const session = await model.session();
const { text } = await session.complete('Once upon a time', { maxTokens: 48, temperature: 0 });
await model.dispose();
process.send({ text, cpu: buildInfo().cpu });
