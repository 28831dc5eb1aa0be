/** Ceilings with probes that end as said, and nothing known at first; for tests of `findMaxContext`. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach } from 'vitest';
import { findCeiling } from '../../dist/ceiling/ceiling.js';
import type { CeilingProbe, CeilingRequest, ContextCeiling } from '../../dist/index.js';

export const dense = 'models/tern-5m-f16.gguf';
const child = join(process.cwd(), 'test/api/probe-child.mjs');
export const folder = mkdtempSync(join(tmpdir(), 'ternion-ceiling-'));
export const cpu = { devices: ['cpu'], packCache: false, reserve: { hostBytes: 0 } } as const;
let caches = 0;

beforeEach(() => {
  process.env['XDG_CACHE_HOME'] = join(folder, String(caches++)); // nothing is known at first
});
afterEach(() => {
  delete process.env['TERNION_TEST_PROBE'];
  delete process.env['TERNION_TEST_LOG'];
});
afterAll(() => {
  delete process.env['XDG_CACHE_HOME'];
  rmSync(folder, { recursive: true, force: true });
});

export const storeFolder = () => join(process.env['XDG_CACHE_HOME']!, 'ternion', 'measured');
export const stored = () => readdirSync(storeFolder()).filter((name) => name.startsWith('ceiling-')).map((name) => join(storeFolder(), name));
/** With probes that end as said from these contexts on. */
export function find(ends: Readonly<Record<number, string>>, request: CeilingRequest = {}, path = dense): Promise<ContextCeiling> {
  process.env['TERNION_TEST_PROBE'] = JSON.stringify(ends);
  return findCeiling(path, { ...cpu, ...request }, child);
}
export const made = (list: CeilingProbe[]) => (probe: CeilingProbe) => void list.push(probe);
