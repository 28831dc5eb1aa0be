// Runs in a control group that allows little memory: random requests end in a plan that loads and works, or in one that says no.
import { loadModel, plan } from '../../dist/index.js';

const [window, count, seed] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
let state = seed;
const below = (n) => ((state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 8) % n;
const pick = (list) => list[below(list.length)];
const files = ['models/tern-5m-tq2_0.gguf', 'models/tern-5m-f16.gguf', 'models/tern-moe-6m-tq2_0.gguf', 'models/tern-hybrid-random.gguf', window];
const done = { loaded: 0, refused: 0, moved: 0, fullest: 0 };
for (let i = 0; i < count; i++) {
  const path = pick(files);
  const context = 256 * 2 ** below(11);
  const request = {
    devices: ['cpu'], sequences: pick([1, 1, 2, 5]), kv: pick(['f16', 'q8_0', 'auto', { k: 'q8_0', v: 'f16' }]),
    context: pick([context, { min: 256, max: context }]), reserve: { hostBytes: 96 * 2 ** 20 }, packCache: false,
    ...pick([{}, { cache: { ramBytes: below(200) * 2 ** 20 } }]),
  };
  const found = await plan(path, request);
  if (!found.fits) {
    if (found.shortages.length === 0) throw new Error(`no reason: ${JSON.stringify(request)}`);
    done.refused++;
    continue;
  }
  let model;
  try {
    model = await loadModel(path, { plan: found, mmap: pick([true, false]), packCache: false });
  } catch (error) {
    if (error.code !== 'ERR_PLAN_DOES_NOT_FIT') throw error;
    done.moved++; // less memory was left than when it was planned, and that was said
    continue;
  }
  const session = await model.session();
  await session.complete('Once upon a time. '.repeat(Math.min(100, Math.floor(found.context / 12))), { maxTokens: 1 });
  await model.dispose();
  done.loaded++;
  const { bytes, cacheBytes, freeBytes, reserveBytes } = found.memory[0];
  done.fullest = Math.max(done.fullest, (bytes - cacheBytes) / (freeBytes - reserveBytes)); // budgets fill up later
}
console.log(JSON.stringify(done));
