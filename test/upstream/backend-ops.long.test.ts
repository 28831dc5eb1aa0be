import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';

test('test-backend-ops passes in full on the CPU of the patched tree', { timeout: 3_600_000 }, () => {
  const args = ['test', '-b', 'CPU', '-j', '2'];
  const output = execFileSync('.build/cmake/bin/test-backend-ops', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], maxBuffer: 2 ** 28 });
  const passed = /(\d+)\/(\d+) tests passed/.exec(output);
  expect(passed?.[1]).toBe(passed?.[2]);
  expect(Number(passed?.[1])).toBeGreaterThan(10_000);
});
