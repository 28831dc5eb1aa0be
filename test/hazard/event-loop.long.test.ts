// Needs a machine that does nothing else: `idle` tells whether it was one.
import { expect, test } from 'vitest';
import { eventLoop } from '../../bench/robustness.mjs';

type Delay = { p99: number; max: number };

test('JavaScript gets its turn within 5 ms while a model decodes on one thread and while 1 GB is loaded', async () => {
  const { idle, decode, load } = (await eventLoop(10)) as { idle: Delay; decode: Delay & { tokens: number }; load: Delay & { loads: number } };
  expect(decode.tokens).toBeGreaterThan(1000);
  expect(load.loads).toBeGreaterThan(0);
  for (const [what, { p99 }] of Object.entries({ decode, load })) expect(p99, `${what}; ${idle.p99} with nothing to do`).toBeLessThan(5);
}, 300_000);
