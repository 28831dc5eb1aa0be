import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

test('200 sessions do for two minutes what they like, and nothing is wrong or left', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ['test/hazard/stress.mjs', '--minutes', '2', '--sessions', '200']);
  expect(stdout).toMatch(/nothing found with --seed \d+\n$/);
}, 600_000);
