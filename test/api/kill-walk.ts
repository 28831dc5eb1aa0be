// Kills a process that evicts to disk, again and again, and looks at what it left. Beside `tiers-crash.test.ts` and its long variant.
import { expect } from 'vitest';
import { setTimeout as wait } from 'node:timers/promises';
import { Snapshot, loadModel } from '../../dist/index.js';
import { Folder, canPreload, headsOf, messagesAt, modelPath, preload, random, reachOf, stateFiles, surely, totalBytes, walk } from './tiers.js';

const diskBytes = 6_000_000; // six conversations of eight: some are dropped, too

// What is written comes in halves with some time between, so that many a kill finds a file that is not whole.
const halves = `
#include <stdio.h>
#include <unistd.h>
size_t fwrite(const void * data, size_t size, size_t n, FILE * file) {
    if (size * n < 100000) return NEXT(fwrite)(data, size, n, file);
    const size_t half = n * size / 2;
    if (NEXT(fwrite)(data, 1, half, file) != half) return 0;
    usleep(4000);
    return NEXT(fwrite)((const char *) data + half, 1, n * size - half, file) == n * size - half ? n : 0;
}
`;

export async function killAndLook(kills: number, seed: number): Promise<void> {
  using folder = new Folder();
  using tools = new Folder();
  const env = canPreload ? preload(tools.path, halves) : {};
  const conversations = await surely(8, 4);
  const at = conversations.map(() => 0);
  const next = random(seed);
  await using model = await loadModel(modelPath, { devices: ['cpu'], threads: 1, context: 512 });
  let [turns, found, fromDisk, unfinished] = [0, 0, 0, 0];
  for (let kill = 0; kill <= kills; ++kill) {
    // What is there under its own name is whole, and within the budget; what is not whole is not under its own name.
    const files = stateFiles(folder.path);
    const whole = files.filter(({ named }) => named);
    expect(totalBytes(files)).toBeLessThanOrEqual(diskBytes);
    for (const { path } of whole) await (await Snapshot.load(path)).dispose();
    unfinished += files.length - whole.length;
    found += whole.length;
    const begin = Math.floor(next() * conversations.length);
    const text = await model.render(messagesAt(conversations[begin]!, at[begin]!));
    const prompt = await model.tokenize(text, { special: true, bos: true });
    const reach = Math.min(reachOf(headsOf(whole), prompt), prompt.length - 1);

    const last = kill === kills;
    const after = next() * 300;
    let first = true;
    const ended = await walk({ diskDir: folder.path, diskBytes, conversations, at, begin, most: last ? 24 : 1e6 }, (line, child) => {
      if (line.type === 'ready') {
        expect(line.entries).toBe(whole.length);
        expect(line.bytes).toBe(totalBytes(whole));
        if (!last) void wait(after).then(() => child.kill('SIGKILL'));
      } else if (line.type === 'turn') {
        const { conversation, turn } = line;
        expect(line.text).toBe(conversations[conversation]!.turns[turn]!.answer);
        if (first && reach > 0) {
          expect(line.cached).toBeGreaterThanOrEqual(reach);
          expect(line.restores).toBeGreaterThan(0);
          fromDisk++;
        }
        first = false;
        turns++;
        at[conversation] = (turn + 1) % conversations[conversation]!.turns.length;
      } else {
        expect(line.errors).toBe(0);
      }
    }, env);
    expect(ended).toBe(last ? 0 : 'SIGKILL');
  }
  console.log(`${kills} kills: ${turns} turns, ${found} whole files found, ${unfinished} unfinished; ${fromDisk} first turns went on from disk`);
  if (canPreload) expect(unfinished).toBeGreaterThan(kills / 50);
  expect(turns).toBeGreaterThan(kills);
  expect(found).toBeGreaterThan(kills);
  expect(fromDisk).toBeGreaterThan(kills / 4);
}
