/**
 * The process that {@link startup} measures. Prints a line at the first token, and one with its figures at the end.
 */
import { peakResidentBytes as peak } from '../probe/memory.js';
import type { StartupJob } from './startup.js';

const { path, context, tokens, ...load } = JSON.parse(process.argv[2] as string) as StartupJob;

const importing = performance.now();
const { loadModel } = await import('../index.js');
const importMs = performance.now() - importing;

const loading = performance.now();
const model = await loadModel(path, { ...load, context });
const loadMs = performance.now() - loading;

const session = await model.session();
let first = true;
const { beginning } = await import('./prompt.js');
for await (const chunk of session.complete(await beginning(model), { temperature: 0, ignoreEos: true, maxTokens: tokens, logprobs: 1 })) {
  if (first && chunk.type === 'logprobs') {
    process.stdout.write('first token\n');
    first = false;
  }
}
const peakResidentBytes = peak();
await model.dispose();
process.stdout.write(`${JSON.stringify({ importMs, loadMs, peakResidentBytes })}\n`);
