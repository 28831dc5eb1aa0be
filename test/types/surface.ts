// Checked by `npm run typecheck`, never run: what must compile, and what must not.
import { isTernionError, loadModel } from 'ternion';
import type { Chunk, Generation, Model, Result } from 'ternion';

export async function surface(): Promise<void> {
  const model: Model = await loadModel('x.gguf', { devices: ['cpu'], kv: { k: 'q8_0', v: 'f16' }, context: 'trained' });
  // @ts-expect-error unknown options do not compile
  await loadModel('x.gguf', { contxt: 1 });
  // @ts-expect-error KV types are listed
  await loadModel('x.gguf', { kv: 'q2_k' });

  const session = await model.session({ system: 's', sampling: { temperature: 0 } });
  const generation: Generation = session.chat([{ role: 'user', content: [{ type: 'text', text: 'x' }] }], { reasoning: 'off' });
  const { text }: Result = await generation;
  text.trim();
  // @ts-expect-error a raw completion has no template, so no reasoning switch
  session.complete('x', { reasoning: 'off' });
  // @ts-expect-error roles are listed
  session.chat([{ role: 'tool', content: 'x' }]);

  for await (const chunk of generation) {
    // @ts-expect-error not narrowed
    void chunk.usage;
    if (chunk.type === 'finish') chunk.usage.generated.toFixed();
    if (chunk.type === 'text') chunk.text.trim();
  }
  for await (const chunk of generation.toReadableStream()) void (chunk satisfies Chunk);

  try {
    await model.dispose();
  } catch (error) {
    // @ts-expect-error unknown until it is recognised
    void error.code;
    if (isTernionError(error, 'ERR_ABORTED')) {
      const code: 'ERR_ABORTED' = error.code;
      void code;
    }
  }
}
