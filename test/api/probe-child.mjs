// A probe that ends as TERNION_TEST_PROBE says ({ context: how, … }: from that context on; 'how once': the first time that it is tried), else the real one.
// Tests name it as the child's program.
import { appendFileSync, readFileSync } from 'node:fs';

const { context } = JSON.parse(process.argv[2]);
const ends = Object.entries(JSON.parse(process.env.TERNION_TEST_PROBE ?? '{}')).sort(([a], [b]) => b - a);
const [how, once] = (ends.find(([least]) => context >= Number(least))?.[1] ?? '').split(' ');
if (process.env.TERNION_TEST_LOG) appendFileSync(process.env.TERNION_TEST_LOG, `${process.pid} ${context}\n`);
const end = once && readFileSync(process.env.TERNION_TEST_LOG, 'utf8').split('\n').filter((line) => line.endsWith(` ${context}`)).length > 1 ? '' : how;
if (end === 'hang') for (;;); // without a word
else if (end === 'abort') process.abort();
else if (end === 'exit') process.exit(7);
else if (end === 'throw') throw new Error('a defect');
else if (end === 'memory') console.log('{"error":{"code":"ERR_OUT_OF_MEMORY","message":"none left"}}');
else if (end === 'garbage') console.log('{"resu\nnull\n17\n{}');
else if (end.startsWith('SIG')) process.kill(process.pid, end);
else await import('../../dist/ceiling/child.js');
