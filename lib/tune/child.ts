/**
 * One sample of a model's speed with some settings.
 */
import { Subject } from '../bench/subject.js';
import type { LoadOptions } from '../load.js';
import { patience, serve } from '../probe/child.js';
import type { Alive } from '../probe/child.js';

/** Settings of a load that change its speed and that {@link tune} chooses or is given. */
export type SpeedSettings = Pick<LoadOptions, 'devices' | 'gpuLayers' | 'experts' | 'ubatch' | 'flashAttention' | 'kv' | 'threads' | 'packCache' | 'allowFallback'>;

/** What the child is told. */
export interface SpeedJob {
  readonly path: string;
  readonly load: SpeedSettings;
  readonly context: number;
  /** Tokens to prefill, and to decode behind them. */
  readonly prompt: number;
  readonly tokens: number;
}

/** Tokens per second. */
export interface Speed {
  readonly prefill: number;
  readonly decode: number;
  /** Greedily decoded: the same in every sample of the same settings. */
  readonly text: string;
}

const warmTokens = 16;

async function sample({ path, load, context, prompt, tokens }: SpeedJob, alive: Alive): Promise<Speed> {
  const texts = new Map<string, string>();
  const subject = await Subject.open(path, { ...load, context, sequences: 1, texts });
  // Reads the weights; a device compiles. On lavapipe (Mesa 22.3) a context whose first step has a single token crashes in its next one.
  await subject.decode(2, Math.min(warmTokens, prompt));
  const began = performance.now();
  await subject.prefill(Math.min(warmTokens, prompt));
  const tokenMs = (performance.now() - began) / warmTokens; // of a batch so small it is more than of a full one
  alive(patience(prompt * tokenMs), 0);
  const prefill = await subject.prefill(prompt);
  alive(patience((prompt + tokens * warmTokens) * tokenMs), 0);
  const decode = await subject.decode(tokens, prompt);
  await subject.close();
  return { prefill, decode, text: [...texts.values()].join('') };
}

await serve(sample);
