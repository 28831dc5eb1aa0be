import { describeMoments, everywhere } from './moments.js';

describeMoments(everywhere);
