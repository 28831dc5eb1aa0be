// Many inputs, several at a time: the tokens of all running sessions share each decode.
import { loadModel } from 'ternion';

const questions = Array.from({ length: 12 }, (_, i) => `What is ${i + 1} + ${12 - i}?`);
const model = await loadModel('models/tern-5m-tq2_0.gguf', { context: 512, sequences: 4 });

async function worker(queue) {
  const session = await model.session();
  for (const [i, question] of queue) {
    const { text } = await session.chat([{ role: 'user', content: question }], { temperature: 0 });
    console.log(`${i}: ${question} ${text}`);
  }
  await session.dispose();
}

const queue = questions.entries(); // one iterator for all: each takes the next question
await Promise.all(Array.from({ length: 4 }, () => worker(queue)));
const { steps, sharedSteps } = model.stats();
console.log(`${sharedSteps} of ${steps} decodes served two or more sessions`);

await model.dispose();
