// Mutations of model files, tried by native/test/hostile_files_test.cc.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { synthesize } from '../../dist/gguf/index.js';
import { asanEnvironment } from '../../scripts/sanitize.mjs';
import { shapes } from '../gguf/shapes.js';

const running = new Set<ChildProcess>();
afterAll(() => running.forEach((child) => child.kill('SIGKILL')));

export const family = ['tern-5m-tq2_0', 'tern-5m-sherry-stq1_0', 'tern-5m-f16', 'tern-draft-q8_0', 'tern-moe-6m-tq2_0', 'tern-moe-6m-f16', 'tern-hybrid-random', 'tern-embedding-random'].map((name) => `models/${name}.gguf`);
export const architectures = Object.keys(shapes) as (keyof typeof shapes)[];

const folder = mkdtempSync(join(tmpdir(), 'ternion-mutations-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A small model of random weights. */
export async function small(architecture: keyof typeof shapes): Promise<string> {
  const path = join(folder, `${architecture}.gguf`);
  await synthesize(path, { ...shapes[architecture], layers: architecture.startsWith('qwen35') ? 4 : 2 }, { types: { matrices: 'q8_0', embedding: 'q8_0' } });
  return path;
}

// What only says more of a finding takes two fifths of the time; `npm run test:asan -- hostile_files` has it.
const { ASAN_OPTIONS, ...environment } = asanEnvironment({ atExit: false });
const env = { ...process.env, ...environment, ASAN_OPTIONS: `${ASAN_OPTIONS}:detect_stack_use_after_return=0:malloc_context_size=1` };

/** What failed, by the program's own words; empty if nothing did. */
export async function mutate(path: string, count: number, seed: number, program = '.build/cmake/bin/hostile_files_test'): Promise<string> {
  const child = spawn(program, ['--count', String(count), '--seed', String(seed), path], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-20_000)));
  const status = await new Promise<number | string>((resolve) => {
    child.on('error', ({ message }) => resolve(message));
    child.on('close', (code, signal) => resolve(code ?? signal!));
  });
  return status === 0 ? '' : `${program} ended with ${status}\n${said}`;
}
