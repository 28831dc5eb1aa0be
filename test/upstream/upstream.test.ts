import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { loadModel } from '../../dist/index.js';

const bin = '.build/cmake/bin';
const path = 'models/tern-5m-tq2_0.gguf';
process.env['TERNION_KERNEL'] = 'upstream'; // whose programs we compare with: other kernels round otherwise

test('256 greedy tokens are those of llama-completion', async () => {
  const prompt = 'Once upon a time';
  const args = ['-m', path, '-p', prompt, '-n', '256', '--temp', '0', '--ignore-eos', '-no-cnv', '-c', '1024', '--no-display-prompt'];
  const upstream = execFileSync(`${bin}/llama-completion`, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  const model = await loadModel(path, { devices: ['cpu'], context: 1024 });
  const session = await model.session();
  const { text, usage } = await session.complete(prompt, { temperature: 0, ignoreEos: true, maxTokens: 256 });
  await model.dispose();
  expect(usage.generated).toBe(256);
  // The program ends its output with newlines of its own.
  expect(upstream.startsWith(text), `${JSON.stringify(text)}\n${JSON.stringify(upstream)}`).toBe(true);
  expect(upstream.slice(text.length).trim()).toBe('');
});

// Upstream's vectors through upstream's own tokeniser program show that our patched tree still tokenises as it must.
const folder = 'vendor/llama/models';
const vocabularies = readdirSync(folder).filter((name) => name.endsWith('.inp')).map((name) => name.slice(0, -4));

test.each(vocabularies)('%s tokenises as its vectors say', (name) => {
  expect(readFileSync(`${folder}/${name}.out`, 'utf8').length).toBeGreaterThan(100);
  execFileSync(`${bin}/test-tokenizer-0`, [`${folder}/${name}`], { stdio: 'ignore' });
});
