import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, rmdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { synthesize } from '../../dist/gguf/index.js';

const limit = 900 * 2 ** 20;

/** A control group of our own below this process's, if the system lets us make one. */
function makeGroup(): { procs: string; killed: () => number; remove: () => void } | undefined {
  const groups = readFileSync('/proc/self/cgroup', 'utf8');
  const first = /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$/m.exec(groups)?.[1];
  const second = /^0::(.*)$/m.exec(groups)?.[1];
  const [folder, file] = first !== undefined ? [join('/sys/fs/cgroup/memory', first, `ternion-${process.pid}`), 'memory.limit_in_bytes'] : [join('/sys/fs/cgroup', second ?? '', `ternion-${process.pid}`), 'memory.max'];
  try {
    mkdirSync(folder);
    writeFileSync(join(folder, file), String(limit));
  } catch {
    if (existsSync(folder)) rmdirSync(folder);
    return undefined;
  }
  const swap = join(folder, first !== undefined ? 'memory.memsw.limit_in_bytes' : 'memory.swap.max');
  if (existsSync(swap)) writeFileSync(swap, first !== undefined ? String(limit) : '0');
  return {
    procs: join(folder, 'cgroup.procs'),
    killed: () => Number(/oom_kill (\d+)/.exec(readFileSync(join(folder, first !== undefined ? 'memory.oom_control' : 'memory.events'), 'utf8'))?.[1] ?? 0),
    remove: () => rmdirSync(folder),
  };
}

const group = process.platform === 'linux' ? makeGroup() : undefined;

describe.skipIf(group === undefined)('in a control group with 900 MiB', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ternion-limit-'));
  const window = join(folder, 'window.gguf');
  beforeAll(() => synthesize(window, 'Gemma-3-4B', { layers: 2, headerOnly: true }), 60_000);
  afterAll(() => {
    group!.remove();
    rmSync(folder, { recursive: true, force: true });
  });
  const run = (...args: string[]) => promisify(execFile)('sh', ['-c', `echo $$ > ${group!.procs}; exec "$0" "$@"`, process.execPath, ...args], { maxBuffer: 2 ** 24 });

  test('the group’s limit is the machine’s memory', async () => {
    const { stdout } = await run('dist/cli/main.js', 'devices', '--json');
    const [cpu] = (JSON.parse(stdout) as { devices: { totalBytes: number; freeBytes: number }[] }).devices;
    expect(cpu!.totalBytes).toBe(limit);
    expect(cpu!.freeBytes).toBeLessThan(limit);
    expect(cpu!.freeBytes).toBeGreaterThan(limit / 2);
  });

  test('random requests end in a plan that loads or in one that says no; nothing is killed', async () => {
    const { stdout } = await run('test/api/limited.mjs', window, '200', '7');
    const { loaded, refused, moved, fullest } = JSON.parse(stdout) as { loaded: number; refused: number; moved: number; fullest: number };
    expect(loaded + refused + moved).toBe(200);
    expect(moved).toBeLessThan(5); // the process itself grows by megabytes between a plan and its load
    expect(loaded).toBeGreaterThan(60);
    expect(refused).toBeGreaterThan(20);
    expect(fullest).toBeGreaterThan(0.9); // some took nearly all that was to be had
    expect(group!.killed()).toBe(0);
  }, 300_000);
});
