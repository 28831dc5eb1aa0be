// A conversation of two turns: the second one prefills only what is new.
import { loadModel } from 'ternion';

const model = await loadModel('models/tern-5m-tq2_0.gguf', { context: 2048 });
const session = await model.session({ sampling: { temperature: 0 } });

for (const question of ['What is 3 + 4?', 'What is 5 + 9?']) {
  const { text, usage } = await session.chat(question);
  console.log(`${question} ${text}   (${usage.prompt} tokens of prompt, ${usage.cached} of them from the cache)`);
}

await model.dispose();
