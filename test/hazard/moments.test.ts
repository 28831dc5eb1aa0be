// One end of each kind at every moment; the others are in moments.long.test.ts.
import { describeMoments } from './moments.js';

describeMoments(['exit', 'error', 'SIGTERM', 'worker terminated']);
describeMoments(['error in a callback', 'error in a callback, which the app handles'], ['load']);
