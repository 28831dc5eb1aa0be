/** `ternion bench MODEL`. */
import { readFile, writeFile } from 'node:fs/promises';
import { benchTests, benchmark } from '../bench/benchmark.js';
import type { BenchTest, PeerSettings } from '../bench/benchmark.js';
import { chart, panels } from '../bench/chart.js';
import { llamaBatchedBench, llamaBench } from '../bench/peer.js';
import type { Peer } from '../bench/peer.js';
import type { BenchReport } from '../bench/report.js';
import { changes, table } from '../bench/table.js';
import { common, loadOptions, loading, number, parse, UsageError } from './options.js';
import { modelPath, progressBar } from './terminal.js';

const { device, 'gpu-layers': gpuLayers, threads, kv } = loading;

export const bench = {
  help: `ternion bench [MODEL] [options]

How fast a model runs here: start, prefill, decoding at depth, beside a busy main thread, and in several sessions; ternion
alternates with itself (the control) and with the programs that are named. Close other work while it runs.

  --tests LIST          of ${benchTests.join(',')} (default: all)
  --rounds N            rounds that count, after one that warms up (default 5)
  --tokens N            tokens to decode in a sample (default 128)
  --prompts LIST   --depths LIST   --sessions LIST
                        defaults 128,512   0,1024,4096   1,2,8,16
  --llama-bench PATH    a built llama-bench, of llama.cpp or a fork; may be given several times
  --llama-batched-bench PATH
  --device ID   --gpu-layers N   --threads N   --kv TYPE
  --compare FILE        an earlier --json output: what changed
  --svg FILE            writes a chart
  --json                the whole report`,
  async run(args: string[], signal: AbortSignal): Promise<number> {
    const { values, positionals } = parse(args, {
      ...common, device, 'gpu-layers': gpuLayers, threads, kv,
      tests: { type: 'string' }, rounds: { type: 'string' }, tokens: { type: 'string' }, prompts: { type: 'string' }, depths: { type: 'string' },
      sessions: { type: 'string' }, compare: { type: 'string' }, svg: { type: 'string' },
      'llama-bench': { type: 'string', multiple: true }, 'llama-batched-bench': { type: 'string', multiple: true },
    });
    if (positionals.length > 1) throw new UsageError('bench takes one MODEL');
    const path = positionals[0] ?? modelPath({});
    const old = values['compare'] === undefined ? undefined : await readReport(values['compare'] as string);
    const { devices, gpuLayers: layers, threads: threadCount, kv: kvType } = loadOptions(values);
    const programs = (name: string) => (values[name] as string[] | undefined) ?? [];
    const peers = (settings: PeerSettings): Peer[] => [
      ...programs('llama-bench').map((file, _, all) => llamaBench(file, { ...settings, name: named(file, all), signal })),
      ...programs('llama-batched-bench').map((file, _, all) => llamaBatchedBench(file, { ...settings, name: named(file, all), signal })),
    ];
    const bar = progressBar('measuring');
    try {
      const report = await benchmark(path, {
        devices, gpuLayers: layers, threads: threadCount, kv: kvType, peers, signal, onProgress: bar,
        tests: readTests(values['tests']), rounds: whole(values, 'rounds'), tokens: whole(values, 'tokens'),
        prompts: readList(values, 'prompts', 1), depths: readList(values, 'depths', 0), sessions: readList(values, 'sessions', 1),
      });
      bar(1);
      console.log(values['json'] === true ? JSON.stringify(report, null, 2) : table(report));
      if (old) (values['json'] === true ? console.error : console.log)(`\n${changes(old, report)}`);
      if (values['svg'] !== undefined) await writeFile(values['svg'] as string, chart(panels(report), `${report.machine.cpu}, ${report.settings.threads} threads; medians with quartiles, tokens per second`));
    } finally {
      bar(1);
    }
    return 0;
  },
};

// Two builds of one program are told apart by their paths.
function named(file: string, all: readonly string[]): string | undefined {
  return all.length > 1 ? file : undefined;
}

function readTests(value: unknown): BenchTest[] | undefined {
  if (value === undefined) return undefined;
  const names = (value as string).split(',');
  const unknown = names.find((name) => !(benchTests as readonly string[]).includes(name));
  if (unknown !== undefined) throw new UsageError(`--tests has no '${unknown}'; there are ${benchTests.join(', ')}`);
  return names as BenchTest[];
}

function readList(values: Parameters<typeof number>[0], name: string, minimum: number): number[] | undefined {
  const value = values[name];
  if (value === undefined) return undefined;
  const list = (value as string).split(',').map(Number);
  if (list.some((each) => !Number.isInteger(each) || each < minimum)) throw new UsageError(`--${name} takes whole numbers of at least ${minimum} with commas between; found '${value as string}'`);
  return list;
}

function whole(values: Parameters<typeof number>[0], name: string): number | undefined {
  const value = number(values, name);
  if (value !== undefined && (!Number.isInteger(value) || value < 1)) throw new UsageError(`--${name} takes a whole number from 1; found '${String(values[name])}'`);
  return value;
}

async function readReport(path: string): Promise<BenchReport> {
  try {
    const report = JSON.parse(await readFile(path, 'utf8')) as BenchReport;
    if (report.format === 1 && Array.isArray(report.figures) && Array.isArray(report.ratios)) return report;
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${(error as Error).message}`);
  }
  throw new UsageError(`${path} is not a report of ternion bench`);
}
