// What a process holds after many uses of ternion, beside what it held after the first tenth of them.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect } from 'vitest';

const most = 2 * 2 ** 20;

/** glibc keeps freed memory in as many places as there are threads, and learns to keep more; one place and fixed sizes show what was not freed. */
const tunables = 'glibc.malloc.arena_max=1:glibc.malloc.mmap_threshold=131072:glibc.malloc.trim_threshold=131072';

export async function expectNoGrowth(what: string, count: number): Promise<void> {
  const args = ['--expose-gc', '--single-threaded', 'test/hazard/leaks-child.mjs', what, String(count)];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args, { env: { ...process.env, GLIBC_TUNABLES: tunables } });
  expect(stderr).toBe('');
  const samples = JSON.parse(stdout) as { native: number; used: number }[];
  expect(samples).toHaveLength(10);
  for (const kind of ['native', 'used'] as const) {
    const bytes = samples.map((sample) => sample[kind]);
    expect(bytes.at(-1)! - bytes[0]!, `${kind}: ${bytes.join(' ')}`).toBeLessThan(most);
  }
}
