/** `ternion packs`: the packed weights that are kept for later loads. */
import { existsSync } from 'node:fs';
import { clearPacks, listPacks, packCache, verifyPack } from '../packs.js';
import type { Pack, PackVerification } from '../packs.js';
import { common, parse, UsageError } from './options.js';
import { mib, progressBar } from './terminal.js';

const help = `ternion packs [options]

Lists the packed weights that are kept for later loads: file, fingerprint of the model, kernels, size, last use.

  --verify        reads all of each pack, too, and says whether it is whole. Exit code 1 if one is damaged
  --clear         removes them
  --folder DIR    default: where models are loaded from (TERNION_PACK_CACHE, or ternion/packs in the user's cache folder)
  --json          { folder, packs: [{ path, fingerprint, kernels, bytes, lastUsedMs }] }, with --verify also state ("whole", "stale",
                  "damaged") and problem in each; with --clear, packs are those that were removed`;

type Row = Pack & Partial<PackVerification>;

export const packs = {
  help,
  async run(args: string[], signal: AbortSignal): Promise<number> {
    const { values, positionals } = parse(args, { ...common, verify: { type: 'boolean' }, clear: { type: 'boolean' }, folder: { type: 'string' } });
    if (positionals.length > 0) throw new UsageError(`packs takes options only; found '${positionals[0]}'`);
    const [verifies, clears] = [values['verify'] === true, values['clear'] === true];
    if (verifies && clears) throw new UsageError('packs takes --verify or --clear, not both');
    const options = { folder: values['folder'] as string | undefined };
    const { folder } = packCache(options);
    const found = await (clears ? clearPacks(options) : listPacks(options));
    const rows = verifies ? await verifyAll(found, signal) : found;
    if (values['json'] === true) console.log(JSON.stringify({ folder, packs: rows }));
    else print(folder, rows, clears);
    return rows.some((row: Row) => row.state === 'damaged') ? 1 : 0;
  },
};

async function verifyAll(found: readonly Pack[], signal: AbortSignal): Promise<Row[]> {
  const bar = progressBar('verifying');
  const all = found.reduce((sum, { bytes }) => sum + bytes, 0);
  const rows: Row[] = [];
  let done = 0;
  try {
    for (const pack of found) {
      try {
        rows.push({ ...pack, ...(await verifyPack(pack.path, { onProgress: (fraction) => bar((done + fraction * pack.bytes) / all), signal })) });
      } catch (error) {
        if (existsSync(pack.path)) throw error; // otherwise it made room for another one meanwhile
      }
      done += pack.bytes;
    }
    return rows;
  } finally {
    bar(1);
  }
}

function print(folder: string, rows: readonly Row[], cleared: boolean): void {
  const width = Math.max(0, ...rows.map(({ kernels }) => kernels.length));
  for (const { path, fingerprint, kernels, bytes, lastUsedMs, state, problem } of rows) {
    const used = new Date(lastUsedMs).toISOString().slice(0, 16).replace('T', ' ');
    console.log(`${fingerprint}  ${kernels.padEnd(width)}  ${mib(bytes).padStart(12)}  used ${used} UTC  ${state === undefined ? '' : `${state}${problem === '' ? '' : ` (${problem})`}  `}${path}`);
  }
  console.log(`${rows.length} packs${cleared ? ' removed' : ''}, ${mib(rows.reduce((sum, { bytes }) => sum + bytes, 0))}, in ${folder}`);
}
