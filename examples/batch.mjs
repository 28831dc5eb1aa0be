// Many inputs, several at a time: the tokens of all running sessions share each decode.
import { loadModel } from 'ternion';

const animals = ['fox', 'bear', 'cat', 'owl', 'mouse', 'rabbit', 'hen', 'goat', 'duck', 'frog', 'deer', 'wolf'];
const model = await loadModel('models/tern-5m-tq2_0.gguf', { context: 512, sequences: 4 });

async function worker(queue) {
  const session = await model.session();
  for (const [i, animal] of queue) {
    const messages = [{ role: 'user', content: `Tell me a story about a ${animal}.` }];
    const { text } = await session.chat(messages, { temperature: 0, maxTokens: 32 });
    console.log(`${i}: ${text}`);
  }
  await session.dispose();
}

const queue = animals.entries(); // one iterator for all: each takes the next question
await Promise.all(Array.from({ length: 4 }, () => worker(queue)));
const { steps, sharedSteps } = model.stats();
console.log(`${sharedSteps} of ${steps} decodes served two or more sessions`);

await model.dispose();
