// Stops an answer after a while and keeps what there is.
import { isTernionError, loadModel } from 'ternion';

const model = await loadModel('models/tern-5m-tq2_0.gguf');
const session = await model.session();

try {
  await session.complete('Once upon a time', { ignoreEos: true, signal: AbortSignal.timeout(100) });
  console.log('it ended by itself');
} catch (error) {
  if (!isTernionError(error, 'ERR_ABORTED')) throw error;
  console.log(`${error.details.usage.generated} tokens in 100 ms: ${error.details.text.slice(0, 60)} …`);
}

await model.dispose();
