// Renders a conversation with the model of argv[2], then tokenises; says how both went.
import { setInterval } from 'node:timers';
import { loadModel } from '../../dist/index.js';

let lagMs = 0;
let last = performance.now();
setInterval(() => {
  const now = performance.now();
  lagMs = Math.max(lagMs, now - last - 10);
  last = now;
}, 10).unref();

const model = await loadModel(process.argv[2], { devices: ['cpu'], context: 256, threads: 1 });
lagMs = 0;
const start = performance.now();
const found = await model.render([{ role: 'user', content: 'hello' }]).then(
  (text) => ({ text }),
  ({ code, message }) => ({ code, message }),
);
const ms = performance.now() - start;
const after = (await model.detokenize(await model.tokenize('ok'))) === 'ok' ? 'ok' : 'not what it was';
console.log(JSON.stringify({ ...found, ms, lagMs, after }));
await model.dispose();
