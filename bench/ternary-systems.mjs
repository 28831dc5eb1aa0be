// What npm run bench:ternary measures: our kernels in their ways, llama.cpp's in our engine, llama.cpp's own programs, and a fork's.

import { existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { ROOT, SetupError, WORK } from '../scripts/run.mjs';
import { BIN } from './upstream.mjs';

export const THREADS = 2;
const CONTEXT = 1024;

// A mixture whose weights are larger than any cache: 64 experts, of which 8 work on a token.
const MIXTURE = {
  architecture: 'qwen3moe', layers: 12, width: 1024, feedForward: 0, heads: 16, kvHeads: 4, headSize: 64, vocabulary: 32_000, context: 4096, ropeBase: 1e4, epsilon: 1e-6, tied: false,
  experts: { count: 64, used: 8, feedForward: 768 },
};
export const MODELS = {
  M: { tq2_0: ['M', { matrices: 'tq2_0' }], tq1_0: ['M', { matrices: 'tq1_0' }], stq1_0: ['M', { matrices: 'stq1_0' }] },
  S: { tq2_0: ['S', { matrices: 'tq2_0' }] },
  mixture: { tq2_0: [MIXTURE, { matrices: 'tq2_0', embedding: 'q8_0' }], stq1_0: [MIXTURE, { matrices: 'stq1_0', embedding: 'q8_0' }] },
};

/** System → type of the model's matrices and TERNION_KERNEL ('' is the default). `two bits` is how the file has them. */
const OURS = {
  'tq2_0': ['tq2_0', ''],
  'tq2_0, again': ['tq2_0', ''],
  'tq2_0, two bits': ['tq2_0', 'avx512-vbmi2/ternary'],
  'stq1_0': ['stq1_0', ''],
  'tq1_0': ['tq1_0', ''],
  'tq2_0, avx2': ['tq2_0', 'avx2'],
  'tq2_0, upstream': ['tq2_0', 'upstream'],
  'tq1_0, upstream': ['tq1_0', 'upstream'],
};
/** What is divided by what. */
export const PAIRS = [
  ['tq2_0, again', 'tq2_0'], ['tq2_0', 'tq2_0, upstream'], ['tq2_0, two bits', 'tq2_0, upstream'], ['tq2_0', 'tq2_0, two bits'], ['stq1_0', 'tq2_0, two bits'], ['stq1_0', 'tq2_0'],
  ['tq1_0', 'tq2_0, two bits'], ['tq1_0', 'tq1_0, upstream'], ['stq1_0', 'tq2_0, upstream'], ['tq2_0, avx2', 'tq2_0, upstream'], ['tq2_0', 'llama-bench'], ['tq2_0', 'llama-batched-bench'],
];

export async function fileOf(name, type, synthesize) {
  const [shape, types] = MODELS[name][type];
  const path = join(WORK, 'bench', `${name}-${type}.gguf`);
  if (existsSync(path)) return path;
  mkdirSync(join(WORK, 'bench'), { recursive: true });
  await synthesize(path, shape, { types, tokenizer: join(ROOT, 'vendor', 'llama', 'models', 'ggml-vocab-llama-spm.gguf') });
  return path;
}

export async function withKernels(kernels, work) {
  process.env.TERNION_KERNEL = kernels;
  try {
    return await work();
  } finally {
    delete process.env.TERNION_KERNEL;
  }
}

/**
 * The systems of a model; each has `decode(tokens)`, `prefill(tokens)` and `together(sessions, tokens)` in tokens per second (what
 * it cannot do is missing), `facts` of its file, and `tokenBytes`: what a token reads of weights, as they lie in memory.
 * @param {string[]} forks  `NAME=PROGRAM:MODEL`: a llama-bench of a fork, with a model of the same shape in a type of its own
 */
export async function openSystems(name, synthesize, forks) {
  const { Subject } = await import('../dist/bench/subject.js');
  const systems = new Map();
  for (const [system, [type, kernels]] of Object.entries(OURS)) {
    if (!(type in MODELS[name])) continue;
    const path = await fileOf(name, type, synthesize);
    const texts = new Map(); // greedy text is the same in all samples of a test
    const open = () => Subject.open(path, { devices: ['cpu'], threads: THREADS, context: CONTEXT, sequences: name === 'M' ? 16 : 1, texts });
    let subject;
    try {
      subject = await withKernels(kernels, open);
    } catch (error) {
      if (error.code !== 'ERR_INVALID_ARG') throw error; // kernels that this processor has not
      console.error(`${system}: ${error.message}`);
      continue;
    }
    const fresh = (run) => (...args) => {
      texts.clear(); // another test may have computed the first token in another batch
      return run(...args);
    };
    const { packed, kernels: inUse } = subject.model.placement;
    systems.set(system, {
      facts: { bytes: statSync(path).size, kernels: inUse, packed },
      tokenBytes: packed.length > 0 ? packed.reduce((sum, { bytes }) => sum + bytes, 0) : fileBytes(name, type),
      decode: fresh((tokens) => subject.decodeInEngine(tokens)),
      prefill: fresh((tokens) => subject.prefill(tokens)),
      together: fresh((sessions, tokens) => subject.together(sessions, tokens)),
      close: () => subject.close(),
    });
  }
  if (name !== 'M') return systems;
  const { llamaBatchedBench, llamaBench } = await import('../dist/bench/index.js');
  const settings = { path: await fileOf(name, 'tq2_0', synthesize), threads: THREADS, devices: ['cpu'], gpuLayers: 0 };
  const program = (peer, path, tokenBytes) => ({
    facts: { bytes: statSync(path).size, kernels: peer.name },
    tokenBytes,
    ...(peer.prefill && { prefill: (tokens) => peer.prefill(tokens), decode: (tokens) => peer.decode(tokens, 0) }),
    ...(peer.sessions && { together: (sessions, tokens) => peer.sessions(sessions, tokens) }),
    close: () => undefined,
  });
  systems.set('llama-bench', program(llamaBench(join(BIN, 'llama-bench'), settings), settings.path, fileBytes(name, 'tq2_0')));
  systems.set('llama-batched-bench', program(llamaBatchedBench(join(BIN, 'llama-batched-bench'), settings), settings.path, fileBytes(name, 'tq2_0')));
  for (const fork of forks) {
    const [, label, path, model] = /^([^=]+)=([^:]+):(.+)$/.exec(fork) ?? [];
    if (!model || !existsSync(model)) throw new SetupError(`--fork takes NAME=PROGRAM:MODEL with a model that exists; found ${fork}`);
    systems.set(label, program(llamaBench(path, { ...settings, path: model, devices: ['fork'], gpuLayers: 0 }), model, 0));
  }
  return systems;
}

// What a token reads of a file: everything but the embedding, of which one row is looked up.
function fileBytes(name, type) {
  if (name === 'mixture') return 0;
  const s = name === 'M' ? { layers: 16, width: 2048, feedForward: 8192, kv: 512, vocabulary: 32_000 } : { layers: 4, width: 256, feedForward: 768, kv: 128, vocabulary: 32_000 };
  const ternary = s.layers * (2 * s.width * s.width + 2 * s.width * s.kv + 3 * s.width * s.feedForward);
  return (ternary / 256) * { tq2_0: 66, tq1_0: 54, stq1_0: 42 }[type] + ((s.vocabulary * s.width) / 32) * 34;
}
