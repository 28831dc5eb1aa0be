#!/usr/bin/env node
// npm run bench: decoding speed through the public API, beside llama.cpp's own programs from the same source.
//
//   npm run bench -- [--shape S] [--shape M] [--repeats N] [--output FILE]
//
// Ratios count; bare times are this machine's, today. Close other work while it runs: it takes about ten minutes.

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';

import { ROOT, SetupError, main } from '../scripts/run.mjs';
import { setUp } from '../scripts/setup.mjs';
import { machine, readBandwidth } from './machine.mjs';
import { SHAPES, shapeFile } from './shapes.mjs';

// Long enough to outlast the scheduler's whims, short enough for many rounds.
const TOKENS = { besideUpstream: { S: 512, M: 512 }, besideBusyMainThread: { S: 1536, M: 128 } };

// The project's own bars.
const TARGETS = {
  'to llama-bench, 2 threads': { S: 0.85, M: 0.97 },
  'spinning, 1 thread, to undisturbed': { S: 0.97, M: 0.97 },
  'spinning, 2 threads, to 1 undisturbed': { S: 0.8, M: 0.8 },
};

await main(async (args) => {
  const { values } = parseArgs({
    args,
    options: {
      shape: { type: 'string', multiple: true, default: SHAPES },
      repeats: { type: 'string', default: '7' },
      output: { type: 'string', default: join(ROOT, 'bench', 'results', 'decode.json') },
    },
  });
  const repeats = Number(values.repeats);
  if (!Number.isInteger(repeats) || repeats < 1) throw new SetupError(`--repeats takes a whole number from 1; found ${values.repeats}`);
  const unknown = values.shape.find((shape) => !SHAPES.includes(shape));
  if (unknown !== undefined) throw new SetupError(`--shape takes ${SHAPES.join(' or ')}; found ${unknown}`);

  await setUp({ tests: true });
  const suites = await import('./decode.mjs'); // needs what setUp made
  const results = { command: `npm run bench -- ${args.join(' ')}`.trim(), machine: machine(), repeats, shapes: {} };
  for (const shape of values.shape) {
    const path = await shapeFile(shape);
    const readGigabytesPerSecond = readBandwidth([1, 2]);
    const bandwidth = Object.values(readGigabytesPerSecond).join(' and ');
    console.log(`Shape ${shape}; memory reads at ${bandwidth} GB/s with 1 and 2 threads`);
    results.shapes[shape] = { readGigabytesPerSecond };
    for (const [suite, tokens] of Object.entries(TOKENS)) {
      const onRound = (round) => status(`${shape}, ${suite}: round ${round} of ${repeats}`);
      const result = await suites[suite]({ path, tokens: tokens[shape], repeats, onRound });
      status('');
      results.shapes[shape][suite] = result;
      print(shape, result);
    }
  }
  mkdirSync(dirname(values.output), { recursive: true });
  writeFileSync(values.output, `${JSON.stringify(results, null, 2)}\n`);
  console.log(`written to ${relative(process.cwd(), values.output)}`);
});

function status(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

function print(shape, { tokensPerSecond, ratios }) {
  for (const [name, { median, min, max }] of Object.entries(tokensPerSecond)) {
    console.log(`  ${name.padEnd(40)} ${median.toFixed(1).padStart(9)} tok/s   ${min.toFixed(1)} to ${max.toFixed(1)}`);
  }
  for (const [name, { median, min, max }] of Object.entries(ratios)) {
    const target = TARGETS[name]?.[shape];
    const verdict = target === undefined ? '' : `   ${median >= target ? 'meets' : 'MISSES'} ${target}`;
    console.log(`  ${name.padEnd(40)} ${median.toFixed(3).padStart(9)} ratio   ${min.toFixed(3)} to ${max.toFixed(3)}${verdict}`);
  }
}
