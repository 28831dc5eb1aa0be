// The embedded model with another chat template.
import { readFileSync, writeFileSync } from 'node:fs';

const embedded = 'models/tern-5m-tq2_0.gguf';
const key = 'tokenizer.chat_template';

/** Writes it to `path`. A comment at the template's end keeps the tensors' data where a reader expects them. */
export function writeModelWithTemplate(path: string, template: string): void {
  const file = readFileSync(embedded);
  const value = file.indexOf(key) + key.length + 4; // behind the type
  const before = Number(file.readBigUInt64LE(value));
  const bytes = Buffer.byteLength(template);
  const padding = 32 + ((((before - bytes) % 32) + 32) % 32);
  const text = Buffer.from(`${template}{#${' '.repeat(padding - 4)}#}`);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(path, Buffer.concat([file.subarray(0, value), length, text, file.subarray(value + 8 + before)]));
}
