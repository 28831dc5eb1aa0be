// A probe that writes its process id down and then loads the largest context again and again, through the real child's lifeline.
import { appendFileSync } from 'node:fs';
import { serve } from '../../dist/probe/child.js';
appendFileSync(process.env.TERNION_TEST_LOG, `${process.pid}\n`);
await serve(() => new Promise((resolve) => setTimeout(resolve, 60_000)));
