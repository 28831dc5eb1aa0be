// Loads a file as bytes of its own, cuts it short, and generates again.
import { truncateSync } from 'node:fs';
import { loadModel } from '../../dist/index.js';

const path = process.argv[2];
const model = await loadModel(path, { devices: ['cpu'], context: 128, mmap: false, packCache: false });
const generate = async () => (await model.session()).complete('Once upon a time', { temperature: 0, maxTokens: 8, ignoreEos: true });
const before = await generate();
truncateSync(path, 4096);
const after = await generate();
console.log(JSON.stringify({ same: after.text === before.text, tokens: after.usage.generated }));
await model.dispose();
