import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { expect, test } from 'vitest';

const said: Readonly<Record<string, RegExp>> = {
  'abort.mjs': /^\d+ tokens in 100 ms: \S/m,
  'batch.mjs': /^[1-9]\d* of \d+ decodes served two or more sessions$/m,
  'chat.mjs': /^What is 3 \+ 4\? 3 \+ 4 = 7 .*\n.*, [1-9]\d* of them from the cache\)$/m,
  'embed.mjs': /^(-?[01]\.\d{3} .*\n){3}$/,
  'sessions.mjs': /^Where does .* Athens\. .*\((\d|[12]\d) tokens prefilled\)\nWhich box .* 12\. .*\n[1-9]\d+ of \d+ cells are shared\n6 messages, [1-9]\d+ tokens from the file: Rosa lives in Athens\.$/m,
  'stream.mjs': /\w{3}[^]*\(\d+ tokens, stop\)$/m,
};

test.each(readdirSync('examples').filter((name) => name.endsWith('.mjs')))('%s', (name) => {
  expect(readFileSync(`examples/${name}`, 'utf8').split('\n').length).toBeLessThan(60);
  const output = execFileSync(process.execPath, [`examples/${name}`], { encoding: 'utf8', env: { ...process.env, TERNION_DEVICES: 'cpu' } });
  expect(output).toMatch(said[name] ?? /^$/);
});
