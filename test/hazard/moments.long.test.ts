import { describeMoments, everywhere, inCallbacks } from './moments.js';

describeMoments(everywhere);
describeMoments(inCallbacks, ['load']);
