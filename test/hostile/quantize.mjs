// Quantises each of argv[3] and on to every type, with the importance matrix argv[2]; says what became of each.
import { rmSync } from 'node:fs';
import { quantize, quantizeTypes } from '../../dist/gguf/index.js';

const [imatrix, ...inputs] = process.argv.slice(2);
const outcomes = {};
for (const input of inputs) {
  outcomes[input] = {};
  for (const type of quantizeTypes) {
    outcomes[input][type] = await quantize(input, `${input}.out`, type, { ...(type !== 'COPY' && { imatrix }), threads: 3, force: true }).then(
      () => 'done',
      ({ code, message }) => `${code} ${message}`,
    );
  }
  rmSync(`${input}.out`, { force: true });
}
console.log(JSON.stringify(outcomes));
