// Native memory as V8 sees it.
import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { addon } from '../../dist/addon.js';
import { Snapshot, loadModel } from '../../dist/index.js';
import type { Model } from '../../dist/index.js';

const { reportedMemory } = addon();
const open = () => loadModel('models/tern-5m-f16.gguf', { devices: ['cpu'], context: 2048, packCache: false });
const hostBytes = ({ placement }: Model) => placement.devices.reduce((sum, { weightBytes, kvBytes, stateBytes, computeBytes }) => sum + weightBytes + kvBytes + stateBytes + computeBytes, 0);
const slack = 2 ** 20; // of Node's own buffers, which come and go
const long = 'The fox looked at the river. '.repeat(200);

test('garbage collection knows how much a model holds, until it is disposed of or gives its memory back', async () => {
  const before = reportedMemory();
  const model = await open();
  const bytes = hostBytes(model);
  expect(bytes).toBeGreaterThan(10 * slack);
  expect(Math.abs(reportedMemory() - before - bytes)).toBeLessThan(slack);
  await model.unload();
  expect(Math.abs(reportedMemory() - before)).toBeLessThan(slack);
  await (await model.session()).complete('Once', { maxTokens: 1 });
  expect(Math.abs(reportedMemory() - before - bytes)).toBeLessThan(slack);
  await Promise.all([model.dispose(), model.dispose()]);
  expect(Math.abs(reportedMemory() - before)).toBeLessThan(slack);
});

test('and how much a snapshot does', async () => {
  await using model = await open();
  const session = await model.session();
  await session.complete(long, { maxTokens: 1 });
  const before = reportedMemory();
  const snapshot = await session.snapshot();
  expect(snapshot.bytes).toBeGreaterThan(2 * slack);
  expect(Math.abs(reportedMemory() - before - snapshot.bytes)).toBeLessThan(slack);
  const copy = await Snapshot.deserialize(await snapshot.serialize());
  await Promise.all([snapshot.dispose(), copy.dispose(), copy.dispose()]);
  expect(reportedMemory() - before).toBeLessThan(snapshot.bytes + slack); // the bytes in between are V8's own
});

test('an array that JavaScript has no room for is an error', async () => {
  await using model = await open();
  const session = await model.session();
  await session.complete(long, { maxTokens: 1 });
  await using snapshot = await session.snapshot();
  const own = globalThis.Uint8Array;
  // As the constructor itself does where there is no memory, or more than an array can hold.
  globalThis.Uint8Array = new Proxy(own, {
    construct(target, [size, ...rest]: [number, ...unknown[]]) {
      if (size > 2 * slack) throw new RangeError('Array buffer allocation failed');
      return Reflect.construct(target, [size, ...rest]) as object;
    },
  });
  try {
    await expect(snapshot.serialize()).rejects.toMatchObject({ code: 'ERR_OUT_OF_MEMORY', message: expect.stringMatching(/no room for an array of \d+ bytes/) as string });
  } finally {
    globalThis.Uint8Array = own;
  }
  expect((await snapshot.serialize()).length).toBe(snapshot.bytes);
});

test('so that snapshots of which nobody disposes do not pile up', async () => {
  await using model = await open();
  const session = await model.session();
  await session.complete(long, { maxTokens: 1 });
  const before = process.memoryUsage.rss();
  let most = 0;
  let all = 0;
  for (let i = 0; i < 250; i++) {
    all += (await session.snapshot()).bytes;
    most = Math.max(most, process.memoryUsage.rss() - before);
  }
  expect(all).toBeGreaterThan(1000 * slack);
  expect(most).toBeLessThan(all / 2);
});

test('no buffer of JavaScript lies in memory that is not V8’s, which Electron forbids', () => {
  const symbols = execFileSync('nm', ['-D', '--undefined-only', process.env['TERNION_ADDON'] ?? 'build/Release/ternion.node'], { encoding: 'utf8' });
  expect(symbols).toMatch(/\bnapi_get_typedarray_info\b/);
  expect(symbols.match(/\b\w*create_external\w*/g)).toBeNull();
});
