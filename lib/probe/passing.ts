/**
 * Ends of probes that say little of what was tried: what else goes on here, or who asked, may have been the reason.
 */
import type { ProbeEnd } from './run.js';

/** Other programs may have had the memory, or somebody ended it: only a second try tells. */
export const maybeOthers = ({ outcome, code }: ProbeEnd) => outcome === 'killed' || code === 'ERR_OUT_OF_MEMORY';

/** Its time was the caller's choice, and another one may have more patience: nothing to keep. */
export const outOfPatience = ({ outcome }: ProbeEnd, timeoutMs: number | undefined) => outcome === 'hung' && timeoutMs !== undefined;
