// What a process leaves on disk is of use to the next one, whatever that one does first.
import { expect, test } from 'vitest';
import { setTimeout as wait } from 'node:timers/promises';
import { statSync } from 'node:fs';
import { loadModel } from '../../dist/index.js';
import type { Model } from '../../dist/index.js';
import { Folder, asked, modelPath, stateFiles } from './tiers.js';

const open = (diskDir: string, context: number, sequences = 1): Promise<Model> =>
  loadModel(modelPath, { devices: ['cpu'], threads: 1, context, kvTokens: context, sequences, cache: { ramBytes: 0, diskBytes: 20_000_000, diskDir } });
const written = (model: Model) => expect.poll(async () => (await model.trimCache(), model.cache.disk.writing)).toBe(0);
const system = 'You are a teller of stories. You speak of foxes, bears and apples, of rivers and of towers, all day long, in many words, and you never stop.';
const other = 'Ned works as a tailor. '.repeat(20);
const third = 'The river was wide, and nobody knew what lay behind it. '.repeat(8);

/** A conversation is evicted by another prompt, and is on disk then. Returns its length. */
async function leave(diskDir: string, context: number): Promise<number> {
  await using model = await open(diskDir, context);
  const session = await model.session({ system });
  await session.chat('Tell me of the fox and of the apples that he took out of the garden, and of what the bear said to that.', { ...asked, maxTokens: context / 2 });
  const filler = await model.session();
  await filler.complete(other.repeat(context / 256), { ...asked, maxTokens: context / 4 });
  await written(model);
  expect(stateFiles(diskDir)).toHaveLength(1);
  return session.usedTokens;
}

test('the beginning that sessions of the same template share is there, too', async () => {
  using folder = new Folder();
  await leave(folder.path, 256);
  await using model = await open(folder.path, 256);
  const { usage } = await (await model.session({ system })).chat('Tell me of the fox and of the apples that he took out of the garden, and of what the bear said to that.', asked);
  expect(usage.cached).toBe(usage.prompt - 1);
  expect(model.cache.restores).toBe(1);
});

test('a conversation that begins alike does not use it up', async () => {
  using folder = new Folder();
  await leave(folder.path, 256);
  await using model = await open(folder.path, 256);
  const another = await model.session({ system });
  const { usage } = await another.chat('What is a boat?', asked);
  expect(usage.cached).toBeGreaterThan(31);
  expect(usage.cached).toBeLessThan(usage.prompt - 1);
  await another.complete(third, asked); // lets go of it
  await another.dispose();
  await model.trimCache();
  expect(model.cache.disk.entries).toBe(1);
  const { usage: again } = await (await model.session({ system })).chat('Tell me of the fox and of the apples that he took out of the garden, and of what the bear said to that.', asked);
  expect(again.cached).toBe(again.prompt - 1);
});

test('one that was longer than the whole cache is now drives nobody out', async () => {
  using folder = new Folder();
  expect(await leave(folder.path, 512)).toBeGreaterThan(256);
  await using model = await open(folder.path, 256);
  const resident = await model.session();
  await resident.complete('Once upon a time there was a fox', asked);
  const { usage } = await (await model.session({ system })).chat('What is a boat?', asked);
  expect(usage.generated).toBe(6);
  expect(model.cache.evictions).toBe(0);
  expect(model.cache.disk.errors).toBe(0);
});

test('while there is no room for it, a file is not read again and again', async () => {
  using folder = new Folder();
  await using model = await open(folder.path, 2048, 2);
  const evicted = await model.session({ system });
  await evicted.chat('Tell me of the fox and of the apples.', { ...asked, maxTokens: 900 });
  const busy = (await model.session()).complete(other, { ...asked, maxTokens: 1800 });
  let mtime = 0;
  let reads = 0;
  let asking: PromiseLike<unknown> | undefined;
  for await (const chunk of busy) {
    if (chunk.type !== 'text') continue;
    const [file] = stateFiles(folder.path);
    if (!file?.named) continue;
    const now = statSync(file.path).mtimeMs;
    reads += Number(mtime !== 0 && now !== mtime); // each read is noted as a use
    mtime = now;
    asking ??= evicted.chat('And then?', asked);
    await wait(1);
  }
  expect(asking).toBeDefined();
  await asking;
  expect(model.cache.restores).toBe(1);
  expect(reads).toBeLessThan(4);
});
