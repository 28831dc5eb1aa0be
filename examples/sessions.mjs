// Two ways to go on from one conversation, and a third in a later run: fork, snapshot, restore.
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Snapshot, loadModel } from 'ternion';

const file = join(tmpdir(), `ternion-example-${process.pid}.state`);
const model = await loadModel('models/tern-5m-tq2_0.gguf', { context: 1024 });
const session = await model.session({ sampling: { temperature: 0 } });
await session.chat('Please remember: Rosa lives in Athens. The yellow card opens box 12.');

// A fork shares the cells of what was said so far.
const fork = await session.fork();
for (const [who, question] of [[session, 'Where does Rosa live?'], [fork, 'Which box does the yellow card open?']]) {
  const { text, usage } = await who.chat(question);
  console.log(`${question} ${text}   (${usage.prompt - usage.cached} tokens prefilled)`);
}
console.log(`${model.cache.cells.shared} of ${model.cache.cells.used} cells are shared`);

// A snapshot goes on in another process, or here.
const snapshot = await fork.snapshot();
await snapshot.save(file);
await model.dispose();

const again = await loadModel('models/tern-5m-tq2_0.gguf', { context: 1024 });
const restored = await again.session({ from: await Snapshot.load(file), sampling: { temperature: 0 } });
const { text, usage } = await restored.chat('Where does Rosa live?');
console.log(`${restored.messages.length} messages, ${usage.cached} tokens from the file: ${text}`);

rmSync(file);
await again.dispose();
