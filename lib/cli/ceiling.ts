/** `ternion ceiling MODEL`. */
import { findMaxContext } from '../ceiling/ceiling.js';
import type { CeilingProbe } from '../ceiling/stored.js';
import { common, loadOptions, loading, mebibytes, number, parse, UsageError } from './options.js';
import { progressBar } from './terminal.js';

export const ceiling = {
  help: `ternion ceiling MODEL [options]

The longest context that works here: each is tried in a process of its own that fills four fifths of it and decodes. What is found
is kept, and plans do not go beyond it. Exit code 1 if none works.

  --device ID           may be repeated            --gpu-layers N
  --cpu-experts N|all   --sequences N   --threads N   --ubatch N   --flash-attention auto|on|off   --kv TYPE
  --min-context N   --max-context N     where to look (256, and the trained context)
  --timeout SECONDS     of one probe (default: as long as it gives signs of life)
  --reserve N           MiB of the CPU's memory to leave alone (512)      --device-reserve N   of a GPU's (256)
  --fresh               whatever was found before
  --json                what was found as an object`,
  async run(args: string[], signal: AbortSignal): Promise<number> {
    const { values, positionals } = parse(args, {
      ...common, ...loading, sequences: { type: 'string' }, 'min-context': { type: 'string' }, 'max-context': { type: 'string' },
      timeout: { type: 'string' }, reserve: { type: 'string' }, 'device-reserve': { type: 'string' }, fresh: { type: 'boolean' },
    });
    const path = positionals[0] ?? (values['model'] as string | undefined);
    if (path === undefined || positionals.length > 1) throw new UsageError('ceiling takes one MODEL');
    if (values['context'] !== undefined) throw new UsageError('ceiling looks for the context; bound it with --min-context and --max-context');
    const json = values['json'] === true;
    const { devices, gpuLayers, experts, threads, ubatch, flashAttention, kv } = loadOptions(values);
    const seconds = number(values, 'timeout');
    const bar = progressBar('trying');
    try {
      const found = await findMaxContext(path, {
        devices, gpuLayers, experts, threads, ubatch, flashAttention, kv, signal,
        sequences: number(values, 'sequences'),
        context: { min: number(values, 'min-context'), max: number(values, 'max-context') },
        probeTimeoutMs: seconds === undefined ? undefined : Math.round(seconds * 1000),
        reserve: { hostBytes: mebibytes(values, 'reserve'), deviceBytes: mebibytes(values, 'device-reserve') },
        fresh: values['fresh'] === true,
        onProgress: bar,
        onProbe: (probe) => {
          if (json) return;
          bar(1);
          console.log(probeText(probe));
        },
      });
      bar(1);
      console.log(json ? JSON.stringify(found) : `${found.message}\nplanned ${found.plannedContext}, trained ${found.trainedContext ?? 'for an unknown context'}`);
      return found.context > 0 ? 0 : 1;
    } finally {
      bar(1);
    }
  },
};

function probeText(probe: CeilingProbe): string {
  const head = `${String(probe.context).padStart(8)}  ${probe.outcome}`;
  if (probe.outcome !== 'works') return `${head}: ${probe.message}`;
  return `${head}: ${probe.filled} filled at ${probe.prefillTokensPerSecond?.toPrecision(3)} tok/s, then ${probe.decodeTokensPerSecond?.toPrecision(3)} tok/s`;
}
