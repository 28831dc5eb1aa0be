// How long JavaScript waits for its turn while ternion works: node bench/event-loop.mjs FILE SECONDS. Milliseconds in JSON; FILE is loaded, all of
// it read, for SECONDS at least. `idle` is what this machine does to a process that does nothing.

import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as wait } from 'node:timers/promises';

import { loadModel } from '../dist/index.js';

const resolution = 1; // ms between two looks; what a look is late by is the delay

async function delays(work) {
  const histogram = monitorEventLoopDelay({ resolution });
  histogram.enable();
  const found = await work();
  histogram.disable();
  const late = (nanoseconds) => Number(Math.max(0, nanoseconds / 1e6 - resolution).toFixed(3));
  return { p50: late(histogram.percentile(50)), p99: late(histogram.percentile(99)), max: late(histogram.max), looks: histogram.count, ...found };
}

const [file, seconds] = [process.argv[2], Number(process.argv[3])];
const small = { devices: ['cpu'], threads: 1, context: 2048, packCache: false };
const warm = await loadModel('models/tern-5m-tq2_0.gguf', small);
const session = await warm.session();
await session.complete('Once', { maxTokens: 20 });

const idle = await delays(() => wait(seconds * 1000));
const decode = await delays(async () => {
  let tokens = 0;
  for (const end = performance.now() + seconds * 1000; performance.now() < end; session.rewind(0)) {
    for await (const chunk of session.complete('Once', { temperature: 0, ignoreEos: true, maxTokens: 1000 })) if (chunk.type === 'finish') tokens += chunk.usage.generated;
  }
  return { tokens };
});
await warm.dispose();
const load = await delays(async () => {
  let loads = 0;
  for (const end = performance.now() + seconds * 1000; performance.now() < end; loads++) {
    await (await loadModel(file, { ...small, mmap: false })).dispose();
  }
  return { loads };
});
console.log(JSON.stringify({ idle, decode, load }));
