import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { devices } from '../../dist/index.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-devices-'));
const measured = join(folder, 'ternion', 'measured');
const before = process.env['XDG_CACHE_HOME'];
beforeAll(() => void (process.env['XDG_CACHE_HOME'] = folder));
beforeEach(() => rmSync(measured, { recursive: true, force: true }));
afterAll(() => {
  if (before === undefined) delete process.env['XDG_CACHE_HOME'];
  else process.env['XDG_CACHE_HOME'] = before;
  rmSync(folder, { recursive: true, force: true });
});

describe('devices()', () => {
  test('the CPU comes first, with this machine’s memory and instruction sets', async () => {
    const [cpu] = await devices();
    expect(cpu).toMatchObject({ id: 'cpu', kind: 'cpu', backend: 'cpu', pciId: '', uma: false, software: false, readBytesPerSecond: undefined });
    expect(cpu!.totalBytes).toBeGreaterThan(2 ** 28);
    expect(cpu!.totalBytes).toBeLessThanOrEqual(totalmem());
    expect(cpu!.freeBytes).toBeGreaterThan(0);
    expect(cpu!.freeBytes).toBeLessThanOrEqual(cpu!.totalBytes);
    expect(cpu!.largestAllocationBytes).toBe(cpu!.totalBytes);
    expect(cpu!.architecture).toMatch(/^(x86_64|aarch64)$/);
    expect(cpu!.capabilities).toContain(cpu!.architecture === 'x86_64' ? 'avx2' : 'neon');
    for (const capability of cpu!.capabilities) expect(capability).toMatch(/^[a-z0-9-]+$/);
    expect(Object.isFrozen(cpu)).toBe(true);
  });

  test('a measured bandwidth is kept, and shown from then on', async () => {
    const [cpu] = await devices({ measure: true });
    expect(cpu!.readBytesPerSecond).toBeGreaterThan(1e8);
    expect(cpu!.readBytesPerSecond).toBeLessThan(1e13);
    const names = readdirSync(measured);
    expect(names.filter((name) => !/^read-[0-9a-f]{32}\.json$/.test(name))).toEqual([]);
    const entries = names.map((name) => JSON.parse(readFileSync(join(measured, name), 'utf8')) as { key: { backend: string }; value: number });
    expect(entries.find(({ key }) => key.backend === 'cpu')?.value).toBe(cpu!.readBytesPerSecond);
    const again = await Promise.all([devices(), devices({ measure: true })]);
    expect(again.map(([found]) => found!.readBytesPerSecond)).toEqual([cpu!.readBytesPerSecond, cpu!.readBytesPerSecond]);
    for (const name of names) writeFileSync(join(measured, name), '{"key":');
    expect((await devices())[0]!.readBytesPerSecond).toBeUndefined();
    for (const name of names) writeFileSync(join(measured, name), JSON.stringify({ key: 'of another', value: 1 }));
    expect((await devices())[0]!.readBytesPerSecond).toBeUndefined();
  });

  test('is measured although nothing can be kept', async () => {
    mkdirSync(join(folder, 'ternion'), { recursive: true });
    writeFileSync(measured, 'a file in the folder’s place');
    expect((await devices({ measure: true }))[0]!.readBytesPerSecond).toBeGreaterThan(1e8);
    expect((await devices())[0]!.readBytesPerSecond).toBeUndefined();
  });

  test('an abort rejects', async () => {
    const reason = new Error('enough');
    await expect(devices({ measure: 'again', signal: AbortSignal.abort(reason) })).rejects.toMatchObject({ code: 'ERR_ABORTED', cause: reason });
    const controller = new AbortController();
    const listing = devices({ measure: 'again', signal: controller.signal });
    setTimeout(() => controller.abort(), 20);
    await expect(listing).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  });

  test('options are checked at once', () => {
    expect(() => devices({ mesure: true } as never)).toThrow(/did you mean "measure"/);
    expect(() => devices({ measure: 3 } as never)).toThrow(/true, false or 'again'/);
  });
});
