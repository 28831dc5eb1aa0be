// Ranks sentences by their likeness to a question.
import { loadModel } from 'ternion';

const sentences = ['The fox lost her red kite.', 'A turtle crossed the river.', 'Seven apples and four apples.'];
const model = await loadModel('models/tern-5m-tq2_0.gguf', { devices: ['cpu'] });

const [question, ...vectors] = await model.embed(['Who lost a kite?', ...sentences]);
const likeness = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0); // vectors have length 1
const ranked = sentences.map((text, i) => ({ text, score: likeness(question, vectors[i]) })).sort((a, b) => b.score - a.score);
for (const { text, score } of ranked) console.log(score.toFixed(3), text);

await model.dispose();
