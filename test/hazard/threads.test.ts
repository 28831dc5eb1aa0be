// The addon in worker threads, loaded more than once, and beside a JavaScript that does not get on.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test, vi } from 'vitest';
import { loadModel } from '../../dist/index.js';

const run = promisify(execFile);
const options = { devices: ['cpu'], context: 512, packCache: false } as const;
const request = { temperature: 0, ignoreEos: true, maxTokens: 30 } as const;

/** What a child wrote to stdout, in JSON; it has to end with 0 and say nothing else. */
async function child(file: string, argument: string): Promise<unknown> {
  const { stdout, stderr } = await run(process.execPath, [`test/hazard/${file}`, argument], { timeout: 50_000 });
  expect(stderr).toBe('');
  return JSON.parse(stdout);
}

async function text(load: typeof loadModel): Promise<string> {
  const model = await load('models/tern-5m-tq2_0.gguf', options);
  const result = await (await model.session()).complete('Once upon a time', request);
  await model.dispose();
  return result.text;
}

test.each([
  ['two workers', [8, 8]],
  ['main and worker', [8, 8]],
  ['one after the other', [2, 2, 2, 2]],
  ['others end', [24, 2]],
  ['loaded again', [2, 2]],
])('%s: each generates what one alone does', async (how, counts) => {
  const right = await text(loadModel);
  const found = (await child('threads-child.mjs', how)) as string[][];
  expect(found.map((texts) => texts.length)).toEqual(counts);
  expect(new Set(found.flat())).toEqual(new Set([right]));
});

test('a test runner that evaluates modules anew works with both copies', async () => {
  const right = await text(loadModel);
  const held = await loadModel('models/tern-5m-tq2_0.gguf', options);
  const session = await held.session();
  const running = session.complete('Once upon a time', request);
  for (let i = 0; i < 3; i++) {
    vi.resetModules();
    const again = await import('../../dist/index.js');
    expect(again.loadModel).not.toBe(loadModel);
    expect(await text(again.loadModel)).toBe(right);
  }
  expect((await running).text).toBe(right);
  await held.dispose();
});

test('JavaScript that stands still for 10 seconds loses nothing', async () => {
  const sanitized = process.env['TERNION_ADDON']?.includes('asan') === true; // takes longer for the same
  const { meanwhile, ...rest } = (await child('blocked-child.mjs', sanitized ? '40000' : '10000')) as { meanwhile: number };
  expect(rest).toEqual({ code: 'ERR_ABORTED', generated: 200, same: [true, true] });
  expect(meanwhile).toBeGreaterThan(390); // both came to their ends; the first token of each is prefill's
}, 120_000);
