// The project's own bars, and what a run says of them.

const ratio = (report, test, to, from = 'ternion') => report?.ratios.find((each) => each.test === test && each.system === from && each.to === to)?.median;
const figure = (report, test, system = 'ternion') => report?.figures.find((each) => each.test === test && each.system === system)?.median;
const busy = 'decode beside a busy main thread';

// The binding with the better thread count is the one to beat.
function toBest(report, test, prefix) {
  const all = report?.ratios.filter((each) => each.test === test && each.system === 'ternion' && each.to.startsWith(prefix)).map(({ median }) => median) ?? [];
  return all.length > 0 ? Math.min(...all) : undefined;
}

/** What, of which report, the bar, whether more is better, and how to read it. */
const TARGETS = [
  ['decode, to llama-bench', 'S', 0.85, (r) => ratio(r, 'decode', 'llama-bench')],
  ['decode, to llama-bench', 'M', 0.97, (r) => ratio(r, 'decode', 'llama-bench')],
  ["decode, to node-llama-cpp's best", 'S', 1.8, (r) => toBest(r, 'decode', 'node-llama-cpp')],
  ["decode, to node-llama-cpp's best", 'M', 1.0, (r) => toBest(r, 'decode', 'node-llama-cpp')],
  ['1 thread beside a busy main thread, to undisturbed', 'S', 0.97, (r) => ratio(r, busy, '1 thread', '1 thread, main thread busy')],
  ['1 thread beside a busy main thread, to undisturbed', 'M', 0.97, (r) => ratio(r, busy, '1 thread', '1 thread, main thread busy')],
  ['2 threads beside a busy main thread, to 1 undisturbed', 'S', 0.8, (r) => ratio(r, busy, '1 thread', '2 threads, main thread busy')],
  ['2 threads beside a busy main thread, to 1 undisturbed', 'M', 0.8, (r) => ratio(r, busy, '1 thread', '2 threads, main thread busy')],
  ['8 sessions, to llama-batched-bench', 'S', 0.8, (r) => ratio(r, '8 sessions', 'llama-batched-bench')],
  ['8 sessions, to llama-batched-bench', 'M', 0.95, (r) => ratio(r, '8 sessions', 'llama-batched-bench')],
];
const LIMITS = [
  ['abort during a prefill of 2000, ms', 'M', 100, (r) => figure(r, 'abort during a prefill of 2000')],
  ['peak resident memory over llama-completion, MB', 'S', 90, (r) => r?.memoryOverCompletion / 1e6],
  ['peak resident memory over llama-completion, MB', 'M', 90, (r) => r?.memoryOverCompletion / 1e6],
  ["import('ternion'), ms", 'embedded', 150, (r) => figure(r, 'import')],
  ['process start to first token, ms', 'embedded', 400, (r) => figure(r, 'process start to first token')],
];

/** One row per bar that the run measured. */
export function verdicts(models) {
  const rows = [...TARGETS.map((row) => [...row, true]), ...LIMITS.map((row) => [...row, false])];
  return rows.flatMap(([what, model, bar, read, more]) => {
    const value = read(models[model]);
    if (value === undefined || Number.isNaN(value)) return [];
    return [{ what, model, bar, value: Number(value.toPrecision(4)), met: more ? value >= bar : value <= bar }];
  });
}
