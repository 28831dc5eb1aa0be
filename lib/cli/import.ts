/** `ternion import IN OUT`: other programs' ternary models as GGUF files. */
import { importModel } from '../gguf/import.js';
import type { Imported, ImportOptions } from '../gguf/import.js';
import { common, parse, UsageError } from './options.js';
import { mib, progressBar } from './terminal.js';

export const importCommand = {
  help: `ternion import IN OUT [options]

Writes a ternary model of another program as a GGUF that llama.cpp reads. IN is one of
  a GGUF with I2_S tensors, of Microsoft's BitNet, as made on x86 (the layout of ARM has the same shape and cannot be told apart)
  an .h1b file of version 1 to 4 (rocm-cpp), with --tokenizer

  --type T              tq2_0 (default) or tq1_0, of the ternary matrices
  --tokenizer FILE      a GGUF whose tokenizer is taken
  --embedding T         f16, q8_0 or q6_K, of embedding and output head (default: as they are)
  --json                { file, source, architecture, activation, bytes, tensors: { ternary, converted, kept }, largestScaleError, notes }`,
  async run(args: string[], signal: AbortSignal): Promise<number> {
    const { values, positionals } = parse(args, { ...common, type: { type: 'string' }, tokenizer: { type: 'string' }, embedding: { type: 'string' } });
    const [input, output] = positionals;
    if (input === undefined || output === undefined || positionals.length > 2) throw new UsageError('import takes two files, IN and OUT');
    const bar = progressBar('importing');
    try {
      const made = await importModel(input, output, {
        type: values['type'] as ImportOptions['type'],
        tokenizer: values['tokenizer'] as string | undefined,
        embedding: values['embedding'] as ImportOptions['embedding'],
        onProgress: bar,
        signal,
      });
      bar(1);
      if (values['json'] === true) console.log(JSON.stringify({ file: output, ...made }));
      else print(output, made);
    } finally {
      bar(1);
    }
    return 0;
  },
};

function print(file: string, { source, architecture, activation, bytes, tensors, largestScaleError, notes }: Imported): void {
  console.log(`${file}: ${mib(bytes)}, from ${source}`);
  console.log(`architecture  ${architecture}${activation === undefined ? '' : `, feed-forward with ${activation}`}`);
  console.log(`tensors       ${tensors.ternary} ternary, ${tensors.converted} quantised, ${tensors.kept} as they were`);
  console.log(`scales        within ${largestScaleError.toExponential(1)} of the file's`);
  for (const note of notes) console.log(`note: ${note}`);
}
