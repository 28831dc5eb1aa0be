// A process that goes on from a snapshot: node continue.mjs MODEL FILE QUESTION
import { Snapshot, loadModel } from '../../dist/index.js';

const [path, file, question] = process.argv.slice(2);
const model = await loadModel(path, { devices: ['cpu'], context: 512 });
const snapshot = await Snapshot.load(file);
const session = await model.session({ from: snapshot, sampling: { temperature: 0 } });
const { text, usage } = await session.chat(question, { maxTokens: 20 });
console.log(JSON.stringify({ text, usage, messages: snapshot.messages, fingerprint: snapshot.fingerprint }));
await model.dispose();
