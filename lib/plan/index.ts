/**
 * `plan()` and `plan.set()`.
 */
import { plan as planOne } from './plan.js';
import { planSet } from './set.js';

/** {@inheritDoc planOne} */
export const plan: typeof planOne & {
  /** {@inheritDoc planSet} */
  readonly set: typeof planSet;
} = Object.assign((...args: Parameters<typeof planOne>) => planOne(...args), { set: planSet });
