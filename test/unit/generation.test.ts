import { describe, expect, test } from 'vitest';
import { Generation } from '../../dist/generation.js';
import type { NativeModel } from '../../dist/native.js';
import type { NativeEvent } from '../../dist/native-session.js';

const usage = { prompt: 3, cached: 0, generated: 2, reasoning: 0, prefillMs: 1, decodeMs: 1, firstTokenMs: 1, queueMs: 1, shifted: 0, interrupted: 0 };
const text = (piece: string): NativeEvent => ({ type: 'text', text: piece });
const end: NativeEvent = { type: 'finish', reason: 'stop', usage };

/** An engine whose ring the test fills by hand. */
function engine(signal?: AbortSignal) {
  const ring: NativeEvent[] = [];
  const calls = { drain: 0, cancel: 0 };
  const ends: unknown[] = [];
  const native = {
    drain: () => {
      calls.drain++;
      return ring.splice(0);
    },
    cancel: () => {
      calls.cancel++;
      ring.push({ type: 'finish', reason: 'aborted', usage });
      queueMicrotask(() => generation.wake());
    },
  } as unknown as NativeModel;
  const generation = new Generation({ kind: 'complete', native, id: 1, seed: 5, signal, onEnd: (outcome) => void ends.push(outcome) });
  return {
    generation,
    calls,
    ends,
    emit: (...events: NativeEvent[]) => {
      ring.push(...events);
      generation.wake();
    },
    waiting: ring,
  };
}

const settled = async (promise: PromiseLike<unknown>) =>
  Promise.race([Promise.resolve(promise).then(() => 'resolved', () => 'rejected'), new Promise((resolve) => setTimeout(resolve, 5, 'pending'))]);

describe('Generation', () => {
  test('awaiting gathers the text; everybody who awaits gets the same', async () => {
    const { generation, emit, ends } = engine();
    const both = Promise.all([generation, generation.then((result) => result)]);
    emit(text('a'), { type: 'reasoning', text: 'r' });
    emit(text('b'), end);
    const [one, two] = await both;
    expect(one).toMatchObject({ text: 'ab', reasoning: 'r', reason: 'stop', seed: 5, usage });
    expect(two).toBe(one);
    expect(ends).toEqual([one]);
  });

  test('an iterator starts at the first chunk, also after the end, and a second one too', async () => {
    const { generation, emit } = engine();
    emit(text('a'), text('b'), end);
    for (let round = 0; round < 2; round++) {
      const seen = [];
      for await (const chunk of generation) seen.push(chunk.type);
      expect(seen).toEqual(['text', 'text', 'finish']);
    }
  });

  test('while an iterator is attached, the ring is not drained until it pulls', async () => {
    const { generation, emit, waiting } = engine();
    const iterator = generation[Symbol.asyncIterator]();
    const first = iterator.next();
    emit(text('a'));
    expect((await first).value).toEqual(text('a'));
    emit(text('b'));
    emit(text('c'));
    expect(waiting).toHaveLength(2);
    expect((await iterator.next()).value).toEqual(text('b'));
    expect(waiting).toHaveLength(0);
    await iterator.return();
  });

  test('leaving the loop cancels; leaving it while somebody awaits does not', async () => {
    const left = engine();
    left.emit(text('a'));
    for await (const chunk of left.generation) if (chunk.type === 'text') break;
    expect(left.calls.cancel).toBe(1);
    await expect(left.generation).rejects.toMatchObject({ code: 'ERR_ABORTED', details: { text: 'a', usage } });

    const kept = engine();
    const awaited = kept.generation.then((result) => result.text);
    kept.emit(text('a'));
    for await (const chunk of kept.generation) if (chunk.type === 'text') break;
    expect(kept.calls.cancel).toBe(0);
    kept.emit(text('b'), end);
    expect(await awaited).toBe('ab');
  });

  test('nobody consumes: it is drained to its end, and its error is nobody’s until somebody asks', async () => {
    const unhandled: unknown[] = [];
    const listener = (reason: unknown) => unhandled.push(reason);
    process.on('unhandledRejection', listener);
    const { generation, emit, ends, waiting } = engine();
    emit(text('a'));
    expect(waiting).toHaveLength(0);
    emit({ type: 'error', usage, code: 'ERR_CONTEXT_FULL', message: 'too long', details: { context: 8 } });
    expect(ends).toHaveLength(1);
    await new Promise((resolve) => setTimeout(resolve, 20));
    process.off('unhandledRejection', listener);
    expect(unhandled).toEqual([]);
    await expect(generation).rejects.toMatchObject({ code: 'ERR_CONTEXT_FULL', details: { context: 8, text: 'a' } });
    const iterator = generation[Symbol.asyncIterator]();
    expect((await iterator.next()).value).toEqual(text('a'));
    await expect(iterator.next()).rejects.toMatchObject({ code: 'ERR_CONTEXT_FULL' });
  });

  test('a signal cancels with its reason; after the end it does nothing', async () => {
    const abort = new AbortController();
    const { generation, calls } = engine(abort.signal);
    abort.abort('enough');
    await expect(generation).rejects.toMatchObject({ code: 'ERR_ABORTED', cause: 'enough' });
    expect(calls.cancel).toBe(1);
    await generation.cancel();
    expect(calls.cancel).toBe(1);

    const late = new AbortController();
    const done = engine(late.signal);
    done.emit(end);
    await done.generation;
    late.abort();
    expect(done.calls.cancel).toBe(0);
  });

  test('a model that ends first ends it, once', async () => {
    const { generation, ends } = engine();
    expect(await settled(generation)).toBe('pending');
    generation.abandon();
    generation.abandon();
    await expect(generation).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect(ends).toHaveLength(1);
  });

  test('the web stream gives the chunks, and cancelling it cancels', async () => {
    const { generation, emit, calls } = engine();
    emit(text('a'));
    const reader = generation.toReadableStream().getReader();
    expect((await reader.read()).value).toEqual(text('a'));
    await reader.cancel();
    expect(calls.cancel).toBe(1);
  });

  test('text() gives the text alone', async () => {
    const { generation, emit } = engine();
    emit({ type: 'progress', done: 1, total: 1, cached: 0 }, text('a'), { type: 'reasoning', text: 'r' }, text('b'), end);
    const pieces = [];
    for await (const piece of generation.text()) pieces.push(piece);
    expect(pieces).toEqual(['a', 'b']);
  });
});
