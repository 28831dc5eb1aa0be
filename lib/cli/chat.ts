/** `ternion chat`: a conversation at the terminal, or one question per line of stdin. */
import { createInterface } from 'node:readline/promises';
import { isTernionError } from '../errors.js';
import { common, generateOptions, loading, parse, sampling } from './options.js';
import { figures, openModel } from './terminal.js';

const help = `ternion chat [options]

A conversation: one message per line. /reset forgets it, /exit ends it, Ctrl-C cancels the answer, twice ends the program.

  --system TEXT         system message
  --json                one JSON object per answer: { text, reasoning, reason, seed, usage }
  and the options of \`ternion generate\``;

export const chat = {
  help,
  async run(args: string[], outer: AbortSignal): Promise<number> {
    const { values } = parse(args, { ...common, ...loading, ...sampling, system: { type: 'string' } });
    const options = generateOptions(values);
    const system = values['system'] as string | undefined;
    await using model = await openModel(values, outer);
    let session = await model.session({ system });
    const terminal = process.stdin.isTTY && process.stdout.isTTY;
    const lines = createInterface({ input: process.stdin, output: terminal ? process.stdout : undefined, terminal, prompt: '> ' });
    let answer: AbortController | undefined;
    lines.on('SIGINT', () => (answer === undefined ? lines.close() : answer.abort()));
    if (terminal) lines.prompt();
    for await (const line of lines) {
      const said = line.trim();
      if (said === '/exit') break;
      if (said === '/reset') {
        await session.dispose();
        session = await model.session({ system });
      } else if (said !== '') {
        answer = new AbortController();
        const signal = AbortSignal.any([answer.signal, outer]);
        try {
          const generation = session.chat(said, { ...options, signal });
          if (values['json'] === true) {
            const { text, reasoning, reason, seed, usage } = await generation;
            console.log(JSON.stringify({ text, reasoning, reason, seed, usage }));
          } else {
            for await (const chunk of generation) {
              if (chunk.type === 'reasoning') process.stdout.write(terminal ? `\x1b[2m${chunk.text}\x1b[0m` : chunk.text);
              if (chunk.type === 'text') process.stdout.write(chunk.text);
            }
            process.stdout.write('\n');
            if (terminal) process.stderr.write(`\x1b[2m${figures(await generation, model)}\x1b[0m\n`);
          }
        } catch (error) {
          if (!isTernionError(error, 'ERR_ABORTED') || outer.aborted) throw error;
          process.stdout.write('\n');
        } finally {
          answer = undefined;
        }
      }
      if (terminal) lines.prompt();
    }
    lines.close();
    return 0;
  },
};
