// One end of each kind at every moment; the others are in moments.long.test.ts.
import { describeMoments, inCallbacks } from './moments.js';

describeMoments(['exit', 'error', 'SIGTERM', 'worker terminated']);
describeMoments(inCallbacks, ['load']);
