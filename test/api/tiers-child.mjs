// Walks conversations round-robin in a cache that has room for hardly two, and says what happened, a line of JSON for each turn. To be
// killed at any moment. What ends begins anew, so that state is removed, too.
import { readFileSync } from 'node:fs';
import { loadModel } from '../../dist/index.js';

const { conversations, at, begin, most, ...cache } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const model = await loadModel('models/tern-5m-tq2_0.gguf', { devices: ['cpu'], threads: 1, context: 256, cache: { ramBytes: 0, ...cache } });
say({ type: 'ready', entries: model.cache.disk.entries, bytes: model.cache.disk.bytes });
const sessions = await Promise.all(conversations.map(() => model.session()));
for (let step = 0; step < most; ++step) {
  const c = (begin + step) % conversations.length;
  const { system, turns } = conversations[c];
  const turn = at[c];
  const messages = turns.slice(0, turn).flatMap(({ question, answer }) => [
    { role: 'user', content: question },
    { role: 'assistant', content: answer },
  ]);
  const prompt = [{ role: 'system', content: system }, ...messages, { role: 'user', content: turns[turn].question }];
  const { text, usage } = await sessions[c].chat(prompt, { temperature: 0, ignoreEos: true, maxTokens: 6 });
  say({ type: 'turn', conversation: c, turn, text, cached: usage.cached, restores: model.cache.restores });
  at[c] = (turn + 1) % turns.length;
  if (at[c] === 0) {
    await sessions[c].dispose();
    sessions[c] = await model.session();
  }
}
while (model.cache.disk.writing > 0) await new Promise((resolve) => setTimeout(resolve, 5));
say({ type: 'end', errors: model.cache.disk.errors, evictions: model.cache.evictions });
await model.dispose();
