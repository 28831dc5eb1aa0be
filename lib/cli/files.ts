/** `ternion inspect FILE`, `ternion lint FILE`. */
import { describeInspection } from '../gguf/describe.js';
import type { Description } from '../gguf/describe.js';
import { lint as lintFile } from '../gguf/lint.js';
import { inspect as inspectFile } from '../inspect.js';
import type { Inspection } from '../inspect.js';
import { common, parse, UsageError } from './options.js';
import { mib } from './terminal.js';

export const inspect = {
  help: `ternion inspect FILE [--json]

Metadata, tensors, sizes by type and role, bytes read per token and KV cache per token of a GGUF file. Reads the header only.
JSON: { version, alignment, dataOffset, fileBytes, metadata: [{ key, type, value, length? }], tensors: [{ name, type, shape, bytes, offset }], description }`,
  async run(args: string[]): Promise<number> {
    const { values, positionals } = parse(args, common);
    const path = one(positionals, 'inspect');
    const file = await inspectFile(path);
    const description = describeInspection(file);
    if (values['json'] === true) {
      console.log(JSON.stringify({ ...file, description }, (_, value: unknown) => (typeof value === 'bigint' ? value.toString() : value)));
      return 0;
    }
    printHeader(file);
    printDescription(description);
    return 0;
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
  if (facts.split !== undefined) rows.push(['part', `${facts.split.index + 1} of ${facts.split.count}`]);
  console.log('');
  for (const [name, text] of rows) console.log(`${name.padEnd(15)} ${text}`);
}
