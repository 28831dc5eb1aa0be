/** `ternion plan`. */
import { writeFile } from 'node:fs/promises';
import { drawBest, drawPlan, drawSweep } from '../plan/draw.js';
import { pictureOf } from '../plan/picture.js';
import { plan as makePlan } from '../plan/index.js';
import type { PlanRequest } from '../plan/request.js';
import { common, loadOptions, loading, mebibytes, number, parse, UsageError } from './options.js';
import type { Values } from './options.js';

export const plan = {
  help: `ternion plan MODEL [options]
ternion plan MODEL MODEL … [options]      files of one model: which is best here, and why
ternion plan MODEL --sweep experts        a mixture's experts beside a GPU, layer by layer

Where a model would go, whether it fits, and how fast it would be, without loading it. Exit code 1 if it does not fit.

  --device ID           may be repeated            --gpu-layers N
  --cpu-experts N|all   a mixture's experts of the first N layers in the CPU's memory (default: as few as have to be)
  --expert-cache N|auto  MiB of a GPU's memory for experts in recent use, of those in the CPU's
  --context N           tokens of the longest conversation; --min-context N and --max-context N: as long as fits between them
  --sequences N         decoded at once            --kv TYPE|auto
  --ubatch N            tokens of one physical batch (512)      --flash-attention auto|on|off
  --threads N           --split: allow a split between GPU and CPU where neither has room for all
  --reserve N           MiB of the CPU's memory to leave alone (512)      --device-reserve N   of a GPU's (256)
  --allow-fallback      let the CPU compute what a named GPU cannot
  --measure             measure how fast its steps are here, where that is not known (--again in any case)
  --min-speed N         of several files: tokens decoded per second that are enough
  --svg FILE            a picture of it            --json                the plan as an object`,
  async run(args: string[], signal: AbortSignal): Promise<number> {
    const { values, positionals } = parse(args, {
      ...common, ...loading, 'min-context': { type: 'string' }, 'max-context': { type: 'string' }, sequences: { type: 'string' }, split: { type: 'boolean' },
      'expert-cache': { type: 'string' }, reserve: { type: 'string' }, 'device-reserve': { type: 'string' }, 'allow-fallback': { type: 'boolean' }, svg: { type: 'string' },
      measure: { type: 'boolean' }, again: { type: 'boolean' }, sweep: { type: 'string' }, 'min-speed': { type: 'string' },
    });
    const paths = positionals.length > 0 ? positionals : values['model'] === undefined ? [] : [values['model'] as string];
    const [path] = paths;
    if (path === undefined) throw new UsageError('plan takes a MODEL, or several files of one');
    const { sweep } = values;
    if (sweep !== undefined && (sweep !== 'experts' || paths.length > 1)) throw new UsageError(sweep === 'experts' ? '--sweep takes one MODEL' : `--sweep takes 'experts'; found '${String(sweep)}'`);
    const least = number(values, 'min-speed');
    if (least !== undefined && paths.length === 1) throw new UsageError('--min-speed chooses among several files; give more than one MODEL');
    const [min, max] = [number(values, 'min-context'), number(values, 'max-context')];
    if (values['context'] !== undefined && (min ?? max) !== undefined) throw new UsageError('--context is given with --min-context or --max-context; leave one out');
    const { kv, context, ...load } = loadOptions(values);
    const request: PlanRequest = {
      ...load,
      context: (min ?? max) === undefined ? context : { min: min ?? 1, max },
      kv: values['kv'] === 'auto' ? 'auto' : kv,
      expertCache: expertCache(values),
      sequences: number(values, 'sequences'),
      allowSplit: values['split'] === true,
      measure: values['again'] === true ? 'again' : values['measure'] === true,
      allowFallback: values['allow-fallback'] === true ? true : undefined,
      reserve: { hostBytes: mebibytes(values, 'reserve'), deviceBytes: mebibytes(values, 'device-reserve') },
      signal,
    };
    const show = (value: object, drawn: string) => console.log(values['json'] === true ? JSON.stringify(value) : drawn);
    if (sweep !== undefined) {
      const swept = await makePlan.sweep(path, request);
      show(swept, drawSweep(swept));
      return swept.chosen === undefined ? 1 : 0;
    }
    if (paths.length > 1) {
      const ranked = await makePlan.best(paths, { ...request, minTokensPerSecond: least });
      show(ranked, drawBest(ranked));
      return ranked.best === undefined ? 1 : 0;
    }
    const found = await makePlan(path, request);
    if (typeof values['svg'] === 'string') await writeFile(values['svg'], pictureOf(found));
    show(found, drawPlan(found));
    return found.fits ? 0 : 1;
  },
};

/** `--expert-cache N|auto`. */
function expertCache(values: Values): PlanRequest['expertCache'] {
  if (values['expert-cache'] === 'auto') return 'auto';
  const deviceBytes = mebibytes(values, 'expert-cache');
  return deviceBytes === undefined ? undefined : { deviceBytes };
}
