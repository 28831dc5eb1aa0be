#!/usr/bin/env node
/**
 * `ternion`: commands, exit codes (0 ok, 1 failed, 2 bad usage, 130 interrupted) and the ends of streams.
 */
import { isTernionError } from '../errors.js';
import { onLog } from '../log.js';
import { bench } from './bench.js';
import { ceiling } from './ceiling.js';
import { chat } from './chat.js';
import { doctor } from './doctor.js';
import { experts } from './experts.js';
import { devices, tokenize } from './facts.js';
import { inspect, lint } from './files.js';
import { generate } from './generate.js';
import { importCommand } from './import.js';
import { kernels } from './kernels.js';
import { UsageError } from './options.js';
import { packs } from './packs.js';
import { plan } from './plan.js';
import { compare, perplexity } from './quality.js';
import { quantize } from './quantize.js';
import { synth } from './synth.js';
import { tune } from './tune.js';

interface Command {
  readonly help: string;
  run(args: string[], signal: AbortSignal): Promise<number>;
}

const commands: Readonly<Record<string, Command>> = { generate, chat, doctor, devices, inspect, lint, tokenize, synth, import: importCommand, quantize, perplexity, compare, bench, kernels, packs, plan, experts, ceiling, tune };

const usage = `ternion COMMAND [options]

  generate [PROMPT]   continue a text
  chat                a conversation
  doctor              whether ternion loads here, and what to do if not
  devices             what a model can run on
  plan MODEL          where a model would go, and whether it fits
  experts MODEL       which experts of a mixture a text is routed to
  ceiling MODEL       the longest context that works here, found by trying it
  tune MODEL          the fastest settings here, found by measuring
  inspect FILE        metadata, tensors and sizes of a GGUF file
  lint FILE           what is wrong with a GGUF file
  tokenize TEXT       token ids
  synth PRESET FILE   a GGUF of random weights in a model's true shape
  import IN OUT       a ternary model of another program as a GGUF file
  quantize IN OUT TYPE    a GGUF with its weights in a smaller type
  perplexity MODEL TEXT   how well a model predicts a text
  compare A B TEXT    how much two models differ
  bench [MODEL]       how fast a model runs here, beside other programs
  kernels             how fast single matrix products are here, beside what the machine allows
  packs               the packed weights that are kept for later loads

ternion COMMAND --help says more.`;

async function main(args: string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined || name === '--help' || name === '-h') {
    (name === undefined ? console.error : console.log)(usage);
    return name === undefined ? 2 : 0;
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined) throw new UsageError(`no command '${name}'; there are ${Object.keys(commands).join(', ')}`);
  if (rest.includes('--help') || rest.includes('-h')) {
    console.log(command.help);
    return 0;
  }
  if (rest.includes('--verbose')) onLog('debug', ({ level, message }) => process.stderr.write(`[${level}] ${message}\n`));
  const interrupted = new AbortController();
  process.once('SIGINT', () => interrupted.abort(new Error('interrupted')));
  try {
    return await command.run(rest, interrupted.signal);
  } catch (error) {
    if (interrupted.signal.aborted && isTernionError(error, 'ERR_ABORTED')) return 130;
    throw error;
  }
}

// A reader that has seen enough (`| head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

main(process.argv.slice(2)).then(
  (code) => (process.exitCode = code),
  (error: unknown) => {
    const verbose = process.argv.includes('--verbose');
    if (error instanceof UsageError) process.stderr.write(`ternion: ${error.message}\n`);
    else if (isTernionError(error)) process.stderr.write(`ternion: ${error.code}: ${error.message}\n${verbose ? `${error.stack}\n` : ''}`);
    else process.stderr.write(`ternion: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exitCode = error instanceof UsageError || isTernionError(error, 'ERR_INVALID_ARG') ? 2 : 1;
  },
);
