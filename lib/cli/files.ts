/** `ternion inspect FILE`, `ternion lint FILE`. */
import { describeParts } from '../gguf/describe.js';
import type { Description } from '../gguf/describe.js';
import { lint as lintFile } from '../gguf/lint.js';
import { inspectParts } from '../gguf/parts.js';
import { verify } from '../gguf/verify.js';
import type { Verification } from '../gguf/verify.js';
import type { Inspection } from '../inspect.js';
import { common, parse, UsageError } from './options.js';
import { mib, progressBar } from './terminal.js';

export const inspect = {
  help: `ternion inspect FILE [--verify] [--json]

Metadata, tensors, sizes by type and role, bytes read per token and KV cache per token of a GGUF file. Reads the header only; of a split file those of all parts.

  --verify   also reads every weight: NaN and infinite values, scales of zero, the file's sha256. Exit code 1 if a value is
             not finite. JSON then has verification: { sound, tensors: [{ name, type, blocks, notFinite, zeroScales, checked }], sha256 }

JSON: { version, alignment, dataOffset, fileBytes, metadata: [{ key, type, value, length? }], tensors: [{ name, type, shape, bytes, offset }], description }`,
  async run(args: string[], signal: AbortSignal): Promise<number> {
    const { values, positionals } = parse(args, { ...common, verify: { type: 'boolean' } });
    const path = one(positionals, 'inspect');
    const files = await inspectParts(path);
    const file = files.joined;
    const description = describeParts(files);
    const verification = values['verify'] === true ? await verifyWithBar(path, signal) : undefined;
    const code = verification?.sound === false ? 1 : 0;
    if (values['json'] === true) {
      console.log(JSON.stringify({ ...file, description, ...(verification && { verification }) }, (_, value: unknown) => (typeof value === 'bigint' ? value.toString() : value)));
      return code;
    }
    printHeader(file);
    printDescription(description);
    if (verification !== undefined) printVerification(verification);
    return code;
  },
};

export const lint = {
  help: `ternion lint FILE [--json]

What is wrong with a GGUF file, as far as its header tells, and what to do. Exit code 1 if there is an error.
JSON: [{ severity, code, message, advice }]`,
  async run(args: string[]): Promise<number> {
    const { values, positionals } = parse(args, common);
    const findings = await lintFile(one(positionals, 'lint'));
    if (values['json'] === true) console.log(JSON.stringify(findings));
    else if (findings.length === 0) console.log('nothing is known to be wrong with it');
    else for (const { severity, code, message, advice } of findings) console.log(`${severity} (${code}): ${message}\n  ${advice}`);
    return findings.some(({ severity }) => severity === 'error') ? 1 : 0;
  },
};

async function verifyWithBar(path: string, signal: AbortSignal): Promise<Verification> {
  const bar = progressBar('verifying');
  try {
    return await verify(path, { onProgress: bar, signal });
  } finally {
    bar(1);
  }
}

function printVerification({ sound, tensors, sha256 }: Verification): void {
  console.log(`\nverified        ${!sound ? 'VALUES ARE NOT FINITE' : tensors.every(({ checked }) => checked) ? 'every value is finite' : 'every value that was checked is finite'}\nsha256          ${sha256}`);
  for (const { name, type, blocks, notFinite, zeroScales, checked } of tensors) {
    if (!checked) console.log(`${name}  ${type}  not checked: a type whose blocks are not known`);
    else if (notFinite > 0 || zeroScales > 0) console.log(`${name}  ${type}  ${notFinite} not finite, ${zeroScales} scales of zero, of ${blocks}`);
  }
}

function one(positionals: readonly string[], command: string): string {
  const [path] = positionals;
  if (path === undefined || positionals.length > 1) throw new UsageError(`${command} takes one FILE`);
  return path;
}

function printHeader(file: Inspection): void {
  console.log(`GGUF v${file.version}, ${mib(file.fileBytes)}, ${file.tensors.length} tensors, data from byte ${file.dataOffset}\n`);
  for (const { key, type, value, length } of file.metadata) {
    const shown = Array.isArray(value) ? `${value.slice(0, 6).map(String).join(', ')}${(length ?? 0) > 6 ? ', …' : ''} (${length})` : String(value);
    const line = JSON.stringify(shown).slice(1, -1);
    console.log(`${key}  ${type}  ${line.length > 100 ? `${line.slice(0, 100)}…` : line}`);
  }
  console.log('');
  for (const tensor of file.tensors) console.log(`${tensor.name}  ${tensor.type}  ${tensor.shape.join(' × ')}  ${mib(tensor.bytes)}`);
}

function printDescription(facts: Description): void {
  const { full, windowed, recurrent } = facts.attentionLayers;
  const rows: [string, string][] = [
    ['parameters', `${(facts.parameters / 1e6).toFixed(1)} M, ${facts.architecture}, ${facts.layers} layers (${full} full${windowed > 0 ? `, ${windowed} with a window of ${facts.window}` : ''}${recurrent > 0 ? `, ${recurrent} recurrent` : ''})`],
    ...Object.entries(facts.bytesByType).map(([type, { tensors, bytes }]): [string, string] => [type, `${tensors} tensors, ${mib(bytes)}`]),
    ...Object.entries(facts.bytesByRole).map(([role, bytes]): [string, string] => [role, mib(bytes)]),
    ['read per token', mib(facts.bytesPerToken)],
    ['KV per token', `${facts.kvBytesPerToken.f16} bytes in f16, ${facts.kvBytesPerToken.q8_0} in q8_0, ${facts.kvBytesPerToken.q4_0} in q4_0${windowed > 0 ? '; windowed layers apart' : ''}`],
  ];
  if (facts.experts !== undefined) rows.push(['experts', `${facts.experts.used} of ${facts.experts.count} work on a token`]);
  if (facts.tokenizer !== undefined) rows.push(['tokenizer', `${facts.tokenizer.model}${facts.tokenizer.pre === undefined ? '' : ` (${facts.tokenizer.pre})`}, ${facts.tokenizer.tokens} tokens, ${facts.tokenizer.hasChatTemplate ? 'with' : 'without'} a chat template`]);
  if (facts.split !== undefined) rows.push(['parts', `${facts.split.count}, of which ${facts.split.missing === 0 ? 'all' : facts.split.count - facts.split.missing} are here; this is the ${facts.split.index + 1}.`]);
  console.log('');
  for (const [name, text] of rows) console.log(`${name.padEnd(15)} ${text}`);
}
