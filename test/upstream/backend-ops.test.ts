import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

// Upstream compares each operation of a backend with its CPU reference. The committed cases are what llama-like,
// mixture and recurrent graphs are made of, in the types that models have.
const cases = readFileSync('test/upstream/lavapipe-ops.txt', 'utf8').trim().split('\n');
const operations = [...new Set(cases.map((line) => line.slice(0, line.indexOf('('))))];

describe('test-backend-ops on lavapipe', () => {
  test('has at most 150 cases', () => {
    expect(cases.length).toBeLessThanOrEqual(150);
    expect(new Set(cases).size).toBe(cases.length);
  });

  // One process per operation: with many in one, Mesa 22.3's lavapipe now and then corrupts its heap.
  test.each(operations)('%s', { timeout: 300_000 }, (operation) => {
    const list = cases.filter((line) => line.startsWith(`${operation}(`));
    const env = { ...process.env, GGML_VK_VISIBLE_DEVICES: '0' };
    const args = ['test', '-b', 'Vulkan0', '-o', list.join(',')];
    const output = execFileSync('.build/cmake/bin/test-backend-ops', args, { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'ignore'] });
    const passed = /(\d+)\/(\d+) tests passed/.exec(output);
    expect(passed?.[1]).toBe(passed?.[2]);
    expect(Number(passed?.[1])).toBeGreaterThanOrEqual(list.length); // some names stand for several cases
  });
});
