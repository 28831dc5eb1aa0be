/**
 * What the commands share at the terminal: the model, progress, figures.
 */
import { fileURLToPath } from 'node:url';
import type { Result } from '../chunk.js';
import { loadModel } from '../load.js';
import type { Model } from '../model.js';
import { loadOptions } from './options.js';
import type { Values } from './options.js';

const embedded = fileURLToPath(new URL('../../models/tern-5m-tq2_0.gguf', import.meta.url));

export function modelPath(values: Values): string {
  return (values['model'] as string | undefined) ?? embedded;
}

/** A bar on stderr while something goes on, if stderr is a terminal; wiped when it is done. `what` replaces the label. */
export function progressBar(label: string): (fraction: number, what?: string) => void {
  const { stderr } = process;
  if (!stderr.isTTY) return () => {};
  const started = performance.now();
  let shown = false;
  return (fraction, what = label) => {
    if (fraction >= 1) {
      if (shown) stderr.write('\r\x1b[K');
      shown = false;
    } else if (shown || performance.now() - started > 200) { // nothing flashes up for what is over at once
      shown = true;
      const filled = Math.floor(fraction * 24);
      stderr.write(`\r\x1b[K${what} ${'█'.repeat(filled)}${'░'.repeat(24 - filled)} ${Math.floor(fraction * 100)} %`);
    }
  };
}

export async function openModel(values: Values, signal: AbortSignal): Promise<Model> {
  const bar = progressBar('loading');
  try {
    return await loadModel(modelPath(values), { ...loadOptions(values), onProgress: bar, signal });
  } finally {
    bar(1);
  }
}

/** One line: tokens, tok/s, time to first token, device. */
export function figures({ usage, seed }: Pick<Result, 'usage' | 'seed'>, model: Model): string {
  const steps = usage.generated - 1; // the first token belongs to the prefill
  const rate = steps > 0 && usage.decodeMs > 0 ? `${((steps / usage.decodeMs) * 1000).toFixed(0)} tok/s` : '– tok/s';
  const devices = model.placement.devices.filter((place) => place.weightBytes > 0).map((place) => place.device).join('+');
  return `${usage.generated} tokens · ${rate} · first token ${usage.firstTokenMs.toFixed(1)} ms · ${devices} · seed ${seed}`;
}

export const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
