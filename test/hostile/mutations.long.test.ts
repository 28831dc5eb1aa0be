// Two thousand mutations of each model of the family, and some of each architecture, with the address sanitizer; npm run test:long builds that.
import { availableParallelism } from 'node:os';
import { beforeAll, expect, test } from 'vitest';
import { architectures, family, mutate, small } from './mutations.js';

const program = '.build/asan/bin/hostile_files_test';
const outcomes = new Map<string, Promise<string>>();

// As many at once as there are cores: one runs on one or two threads, and reads and checks on one.
beforeAll(async () => {
  if (process.platform !== 'linux') return;
  const files: [path: string, count: number][] = family.map((path) => [path, 2000]);
  for (const architecture of architectures) files.push([await small(architecture), 200]);
  const queue = [...files];
  const settle = new Map<string, (outcome: string) => void>();
  for (const [path] of files) outcomes.set(path, new Promise((resolve) => settle.set(path, resolve)));
  const work = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) settle.get(next[0])!(await mutate(...next, 2, program));
  };
  for (let i = 0; i < availableParallelism(); ++i) void work();
});

test.skipIf(process.platform !== 'linux').each([...family, ...architectures])('%s', { timeout: 3_600_000 }, async (name) => {
  const path = [...outcomes.keys()].find((each) => each === name || each.endsWith(`/${name}.gguf`))!;
  expect(await outcomes.get(path)).toBe('');
});
