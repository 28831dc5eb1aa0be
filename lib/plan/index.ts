/**
 * `plan()` and what belongs to it.
 */
import { planBest } from './best.js';
import { plan as planOne } from './plan.js';
import { planSet } from './set.js';
import { planSweep } from './sweep.js';

/** {@inheritDoc planOne} */
export const plan: typeof planOne & {
  /** {@inheritDoc planSet} */
  readonly set: typeof planSet;
  /** {@inheritDoc planBest} */
  readonly best: typeof planBest;
  /** {@inheritDoc planSweep} */
  readonly sweep: typeof planSweep;
} = Object.assign((...args: Parameters<typeof planOne>) => planOne(...args), { set: planSet, best: planBest, sweep: planSweep });
