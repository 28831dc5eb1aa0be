/**
 * What is wrong with a GGUF file, as far as its header tells, and what to do about it.
 */
import { isTernionError } from '../errors.js';
import type { Inspection } from '../inspect.js';
import { clashingType, i2sType } from './clash.js';
import { describeParts } from './describe.js';
import type { Description } from './describe.js';
import { inspectParts } from './parts.js';
import type { Parts } from './parts.js';
import { rawTensors } from './table.js';

/** Something to know about a file. `error`: it will not load or will compute wrongly. `warning`: it will disappoint. */
export interface Finding {
  readonly severity: 'error' | 'warning';
  /** For programs; does not change. */
  readonly code: string;
  readonly message: string;
  readonly advice: string;
}

interface File {
  readonly header: Inspection;
  readonly files: Parts;
  readonly facts: Description;
}

type Rule = (file: File) => Finding | undefined;

const finding = (severity: Finding['severity'], code: string, message: string, advice: string): Finding => ({ severity, code, message, advice });

/** Architectures with rotary sections: without them positions are computed as for text of another kind. */
const needsSections = ['qwen2vl', 'qwen3vl', 'qwen3vlmoe', 'qwen35', 'qwen35moe'];
/** Architectures whose loader takes no biases of query, key and value. */
const ignoresBias = ['bitnet', 'bitnet-25', 'bitnet-b1.58'];
/** Of LLaMA 3's vocabulary, which BitNet-b1.58-2B-4T has; no other BitNet model has as many. */
const llama3Tokens = 128_256;

/** What each file of a model must have. */
const fileRules: readonly Rule[] = [
  ({ files: { parts } }) => {
    for (const { path, header } of parts) {
      const end = header.tensors.reduce((furthest, { offset, bytes }) => Math.max(furthest, header.dataOffset + offset + bytes), 0);
      if (end > header.fileBytes) return finding('error', 'truncated', `${parts.length > 1 ? path : 'the file'} has ${header.fileBytes} bytes, but its tensors reach to byte ${end}`, 'download or convert it again');
    }
    return undefined;
  },
  ({ files: { missing, firstMissing, split } }) => {
    if (split === undefined || missing === 0) return undefined;
    const which = firstMissing === undefined ? `it is part ${split.index + 1} of ${split.count}, but its name does not end in -00001-of-00002.gguf or the like` : `${missing} of ${split.count} parts are not beside it, the first of them ${firstMissing}`;
    return finding('error', 'split-part-missing', which, 'put all parts into one folder under their own names');
  },
];

/** What the first file, which has the metadata, must say. */
const rules: readonly Rule[] = [
  ({ facts }) =>
    facts.tokenizer === undefined
      ? finding('error', 'no-tokenizer', 'there is no tokenizer in it', 'convert the model again together with its tokenizer files')
      : undefined,
  ({ header, facts }) => {
    const rows = header.tensors.find(({ name }) => name === 'token_embd.weight')?.shape[1];
    if (facts.tokenizer === undefined || rows === undefined || rows === facts.tokenizer.tokens) return undefined;
    return finding('error', 'vocabulary-mismatch', `the tokenizer has ${facts.tokenizer.tokens} tokens, the embedding ${rows} rows`, 'convert the model again; the tokenizer belongs to another one');
  },
  ({ header, facts: { architecture } }) =>
    needsSections.includes(architecture) && !header.metadata.some(({ key }) => key === `${architecture}.rope.dimension_sections`)
      ? finding('error', 'no-rope-sections', `${architecture} needs ${architecture}.rope.dimension_sections, which old conversions lack`, 'convert the model again with a current converter')
      : undefined,
  ({ facts: { architecture, tokenizer } }) =>
    architecture.startsWith('bitnet') && tokenizer?.tokens === llama3Tokens && tokenizer.model !== 'gpt2'
      ? finding('error', 'wrong-vocabulary', `the vocabulary is of the kind '${tokenizer.model}', but BitNet-b1.58-2B-4T has LLaMA 3's byte-pair encoding: texts come out as other tokens than it was trained on`, 'import the original I2_S file (npx ternion import), or convert it again with a converter that writes the byte-pair vocabulary; the merges are lost here')
      : undefined,
  ({ header, facts }) =>
    facts.tokenizer?.model === 'gpt2' && !header.metadata.some(({ key }) => key === 'tokenizer.ggml.merges')
      ? finding('error', 'no-merges', 'the tokenizer is a byte-pair encoding without its merges, so llama.cpp refuses it', 'convert the model again together with its tokenizer files')
      : undefined,
  ({ facts: { architecture, hasAttentionBias } }) =>
    ignoresBias.includes(architecture) && hasAttentionBias
      ? finding('error', 'ignored-bias', `it has biases of query, key or value, which ${architecture} ignores, so results are wrong`, 'convert it to the architecture that the model really has')
      : undefined,
  ({ facts }) =>
    facts.tokenizer?.hasChatTemplate === false
      ? finding('warning', 'no-chat-template', 'there is no chat template, so chat() cannot be used', 'convert a version with tokenizer_config.json, or use complete() with a prompt of your own')
      : undefined,
  ({ facts }) =>
    facts.tokenizer?.model === 'gpt2' && facts.tokenizer.pre === undefined
      ? finding('warning', 'no-pre-tokenizer', 'the tokenizer does not name its pre-tokenizer, so numbers and spaces may be cut wrongly', 'convert the model again with a current converter')
      : undefined,
  ({ facts }) =>
    facts.trainedContext === undefined
      ? finding('warning', 'no-context-length', 'the header does not say on how many tokens the model was trained', 'give loadModel() a context of your own')
      : undefined,
];

/** Every finding, errors first; none means that nothing is known to be wrong. Rejects as {@link inspect} does. */
export async function lint(path: string): Promise<Finding[]> {
  let files: Parts;
  try {
    files = await inspectParts(path);
  } catch (error) {
    const clash = isTernionError(error, 'ERR_MODEL_INVALID') ? await findClash(path) : undefined;
    if (clash === undefined) throw error;
    return [clash];
  }
  const file = { header: files.joined, files, facts: describeParts(files) };
  const { split, parts } = files;
  const hasMetadata = split === undefined || parts.some(({ header }) => header.metadata.some(({ key, value }) => key === 'split.no' && value === 0));
  const found = [...fileRules, ...(hasMetadata ? rules : [])].map((rule) => rule(file)).filter((one) => one !== undefined);
  return [...found.filter(({ severity }) => severity === 'error'), ...found.filter(({ severity }) => severity === 'warning')];
}

// llama.cpp refuses such a header as damaged, which leaves everybody wondering.
async function findClash(path: string): Promise<Finding | undefined> {
  const clash = clashingType((await rawTensors(path).catch(() => undefined)) ?? []);
  if (clash === undefined) return undefined;
  return finding(
    'error',
    'clashing-type',
    `tensor ${clash.tensor} has the type number ${clash.typeId}, but the size of ${clash.format}: the program that wrote the file gave the number another meaning than llama.cpp does`,
    clash.typeId === i2sType ? 'npx ternion import makes a file of TQ2_0 from it' : 'convert the original weights with a current converter',
  );
}
