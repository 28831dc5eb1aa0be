// The end of a process, or of a worker thread, at a moment of a model's life: it ends as the app wants, soon, and says nothing that the app did
// not say.
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { synthesize } from '../../dist/gguf/index.js';
import { Snapshot } from '../../dist/index.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-moments-'));
beforeAll(async () => {
  const shape = {
    architecture: 'llama', layers: 4, width: 1024, feedForward: 2048, heads: 16, kvHeads: 8, headSize: 64, vocabulary: 8192, context: 2048, ropeBase: 1e4, epsilon: 1e-5, tied: false,
  } as const;
  await synthesize(join(folder, 'load.gguf'), shape, { types: { matrices: 'f16', embedding: 'f16' } });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a child to its end, which has to come within `seconds` of its 'here'. */
function run(moment: string, end: string, seconds = 10): Promise<Ended> {
  const child = spawn(process.execPath, ['test/hazard/moments-child.mjs', moment, end, folder], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  let timer = setTimeout(() => child.kill('SIGKILL'), 30_000);
  child.stdout.on('data', (text: Buffer) => {
    if (stdout === '') {
      clearTimeout(timer);
      timer = setTimeout(() => child.kill('SIGKILL'), seconds * 1000);
    }
    stdout += text.toString();
  });
  child.stderr.on('data', (text: Buffer) => (stderr += text.toString()));
  return new Promise((resolve) =>
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, stdout, stderr });
    }),
  );
}

/** What Node says of an error that nobody caught, and nothing else: where it was thrown, the error, its stack, Node's version. */
const uncaught = /^\S+\n.*\n\s*\^\n\n(?:Error: of the app\n(?: {4}at .*\n)+)\n(?:Node\.js v\S+\n)$/;

/** How each end has to look from outside. */
const ends: Readonly<Record<string, (ended: Ended) => void>> = {
  exit: (ended) => expect(ended).toEqual({ code: 7, signal: null, stdout: 'here', stderr: '' }),
  error: ({ stderr, ...ended }) => {
    expect(ended).toEqual({ code: 1, signal: null, stdout: 'here' });
    expect(stderr).toMatch(uncaught);
  },
  rejection: ({ stderr, ...ended }) => {
    expect(ended).toEqual({ code: 1, signal: null, stdout: 'here' });
    expect(stderr).toMatch(uncaught);
  },
  SIGINT: (ended) => expect(ended).toEqual({ code: null, signal: 'SIGINT', stdout: 'here', stderr: '' }),
  SIGTERM: (ended) => expect(ended).toEqual({ code: null, signal: 'SIGTERM', stdout: 'here', stderr: '' }),
  'SIGINT, which the app handles': (ended) => expect(ended).toEqual({ code: 8, signal: null, stdout: 'here', stderr: '' }),
  // Of a callback that ternion calls: like any other.
  'error in a callback': ({ stderr, ...ended }) => {
    expect(ended).toEqual({ code: 1, signal: null, stdout: 'here' });
    expect(stderr).toMatch(uncaught);
  },
  'error in a callback, which the app handles': (ended) => expect(ended).toEqual({ code: 0, signal: null, stdout: 'here, of the app, went on', stderr: '' }),
  'worker terminated': (ended) => expect(ended).toEqual({ code: 0, signal: null, stdout: 'here ended 1 ; 3', stderr: '' }),
  'worker exits': (ended) => expect(ended).toEqual({ code: 0, signal: null, stdout: 'here ended 7 ; 3', stderr: '' }),
  'worker throws': (ended) => expect(ended).toEqual({ code: 0, signal: null, stdout: 'here ended 1 of the app; 3', stderr: '' }),
};

const moments = ['load', 'prefill', 'decode', 'dispose', 'disposed', 'snapshot write', 'capture', 'embed', 'tokenize', 'unload', 'plan'] as const;
export const inCallbacks = Object.keys(ends).filter((end) => end.includes('callback'));
export const everywhere = Object.keys(ends).filter((end) => !inCallbacks.includes(end));

/** Tests that each of these moments, or all, ends in each of these ways. */
export function describeMoments(how: readonly string[], which: readonly string[] = moments): void {
  describe.each(which)('%s', (moment) => {
    test.each(how)('%s', async (end) => {
      ends[end]!(await run(moment, end));
      // What a snapshot's write left under its name is whole.
      for (const name of readdirSync(folder).filter((entry) => entry.endsWith('.snapshot'))) await (await Snapshot.load(join(folder, name))).dispose();
      for (const name of readdirSync(folder).filter((entry) => entry !== 'load.gguf')) rmSync(join(folder, name));
    });
  });
}
