// A sample whose settings end it, or whose speed is known. TERNION_TEST_SPEEDS: { ends: { '"ubatch":64': how }, prefill: { '"ubatch":64': factor }, decode: { … }, jitter }:
// a key is looked for in the settings' JSON. Tests name it as the sample's program.
import { appendFileSync, readFileSync } from 'node:fs';

const settings = JSON.stringify(JSON.parse(process.argv[2]).load);
const { ends = {}, prefill = {}, decode = {}, texts = false, jitter = 0 } = JSON.parse(process.env.TERNION_TEST_SPEEDS);
const log = process.env.TERNION_TEST_LOG;
appendFileSync(log, `${settings}\n`);
const nth = readFileSync(log, 'utf8').split('\n').length;
const end = Object.entries(ends).find(([key]) => settings.includes(key))?.[1];
const speed = (factors) => Object.entries(factors).reduce((product, [key, factor]) => (settings.includes(key) ? product * factor : product), 100) * (1 + jitter * Math.sin(nth * 1.7));
if (end === 'hang') for (;;); // without a word
else if (end === 'silent') for (console.log('{"allowMs":500,"fraction":0}'); ; );
else if (end === 'kill' || (end === 'kill once' && readFileSync(log, 'utf8').split('\n').filter((line) => line === settings).length < 2)) process.kill(process.pid, 'SIGKILL');
else if (end === 'abort') process.abort();
else if (end === 'memory') console.log('{"error":{"code":"ERR_OUT_OF_MEMORY","message":"none left"}}');
else console.log(JSON.stringify({ result: { prefill: speed(prefill), decode: speed(decode), text: texts ? String(Math.random()) : 'text' } }));
