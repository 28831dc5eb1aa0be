// Streams a story as it is written.
import { loadModel } from 'ternion';

const model = await loadModel('models/tern-5m-tq2_0.gguf');
const session = await model.session();

for await (const chunk of session.chat('Tell me a story about a fox.', { temperature: 0.7, maxTokens: 300 })) {
  if (chunk.type === 'text') process.stdout.write(chunk.text);
  if (chunk.type === 'finish') console.log(`\n(${chunk.usage.generated} tokens, ${chunk.reason})`);
}

await model.dispose();
