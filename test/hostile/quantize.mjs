// Quantises argv[2] to every type, with the importance matrix argv[3]; says what became of each.
import { rmSync } from 'node:fs';
import { quantize, quantizeTypes } from '../../dist/gguf/index.js';

const [input, imatrix] = process.argv.slice(2);
const outcomes = {};
for (const type of quantizeTypes) {
  outcomes[type] = await quantize(input, `${input}.out`, type, { ...(type !== 'COPY' && { imatrix }), threads: 3, force: true }).then(
    () => 'done',
    ({ code, message }) => `${code} ${message}`,
  );
}
rmSync(`${input}.out`, { force: true });
console.log(JSON.stringify(outcomes));
