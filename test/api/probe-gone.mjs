// A probe of a file that is gone by the time it is loaded.
import { rmSync } from 'node:fs';
rmSync(JSON.parse(process.argv[2]).path);
await import('../../dist/ceiling/child.js');
