// A probe that ends as TERNION_TEST_PROBE says ({ context: how, … }: from that context on), else the real one. Tests name it as the child's program.
import { appendFileSync } from 'node:fs';

const { context } = JSON.parse(process.argv[2]);
const ends = Object.entries(JSON.parse(process.env.TERNION_TEST_PROBE ?? '{}')).sort(([a], [b]) => b - a);
const end = ends.find(([least]) => context >= Number(least))?.[1];
if (process.env.TERNION_TEST_LOG) appendFileSync(process.env.TERNION_TEST_LOG, `${process.pid} ${context}\n`);
if (end === 'hang') for (;;); // without a word
else if (end === 'abort') process.abort();
else if (end === 'exit') process.exit(7);
else if (end === 'throw') throw new Error('a defect');
else if (end === 'garbage') console.log('{"resu\nnull\n17\n{}');
else if (end?.startsWith('SIG')) process.kill(process.pid, end);
else await import('../../dist/ceiling/child.js');
