// What is measured of each file of the family, and when a new value agrees with the recorded one.

import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';

import { ROOT, WORK } from '../../scripts/run.mjs';
import { answersOf } from './answers.mjs';
import { acceptanceOf, batchVarianceOf, greedyOf, perplexityOf } from './predictions.mjs';
import { lossOf } from './weights.mjs';

const MODELS = join(ROOT, 'models');
const HELDOUT = join(MODELS, 'recipe', 'heldout');
const ROWS = join(HELDOUT, 'rows.tok');
const BIN = join(WORK, 'cmake', 'bin');
const ROW_COUNT = 8;
const PROMPTS = ['Once upon a time', 'One day, a little fox', 'The sun was'];
const WORDS = 'a small fox went over the river and into the dark forest where nobody lived'.split(' ');
const TEXTS = Array.from({ length: 17 }, (_, i) => WORDS.slice(0, 1 + ((i * 5) % WORDS.length)).join(' '));
const file = (name) => join(MODELS, name);

// Upstream's kernels, with which the figures were recorded and to whose programs some compare: ours round otherwise.
process.env.TERNION_KERNEL = 'upstream';

// Another processor's kernels round otherwise; what is exact here may move there by so much.
const TOLERANCE = { perplexity: 0.002, points: 0.04, share: 0.02 };

// The dense model's bars: JSON that parses and matches, right tool calls, recall.
const GOALS = [['json', 0.95], ['tool', 0.9], ['recall', 0.9]];

/** Figure → how it is measured, and whether a new value agrees with the recorded one. */
export const FIGURES = {
  bytes: { of: (name) => readFileSync(file(name)).length, agrees: Object.is },
  sha256: { of: (name) => createHash('sha256').update(readFileSync(file(name))).digest('hex'), agrees: Object.is },
  perplexity: {
    of: async (name) => rounded(await perplexityOf(file(name), ROWS, ROW_COUNT)),
    agrees: (a, b) => Math.abs(a / b - 1) <= TOLERANCE.perplexity,
  },
  sameTextAsUpstream: { of: sameTextAsUpstream, agrees: (a) => a === true },
  lossAgainstTwin: { of: (name) => lossOf(file(name), file(name.replace('tq2_0', 'f16'))), agrees: (a) => a === 0 },
  leastUsedExpert: {
    of: () => {
      const layers = execFileSync(join(BIN, 'mixture_test'), { cwd: ROOT, encoding: 'utf8' });
      return Math.min(...[...layers.matchAll(/least used: ([\d.]+) %/g)].map(([, percent]) => Number(percent))) / 100;
    },
    agrees: (a, b) => a >= 0.01 && Math.abs(a - b) <= TOLERANCE.share,
  },
  acceptance: { of: acceptance, agrees: (a, b) => a > 0.6 && Math.abs(a - b) <= TOLERANCE.share },
  batchVariance: { of: (name) => batchVarianceOf(file(name), TEXTS), agrees: (a) => a <= 5e-4 },
  answers: {
    of: (name) => answersOf(join(BIN, 'llama-completion'), file(name), HELDOUT),
    agrees: (a, b) => isDeepStrictEqual(Object.keys(a), Object.keys(b)) && Object.entries(a).every(([kind, [right, asked]]) =>
      asked === b[kind][1] && Math.abs(right - b[kind][0]) <= Math.ceil(TOLERANCE.points * asked)) && GOALS.every(([kind, share]) => a[kind][0] >= share * a[kind][1]),
  },
};

const rounded = (value) => Number(value.toPrecision(5));

async function sameTextAsUpstream(name) {
  const ours = await greedyOf(file(name), PROMPTS, 48);
  return PROMPTS.every((prompt, i) => {
    const args = ['-m', file(name), '-dev', 'none', '-no-cnv', '-p', prompt, '-n', '48', '--temp', '0', '-c', '2048', '--no-display-prompt'];
    const upstream = execFileSync(join(BIN, 'llama-completion'), args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return upstream.replace(/ *\[end of text\]\s*$/, '').trim() === ours[i].text.trim();
  });
}

async function acceptance(name) {
  const cases = ['json', 'recall', 'question', 'chat', 'rule', 'copy'].flatMap((kind) =>
    readFileSync(join(HELDOUT, `${kind}.jsonl`), 'utf8').trim().split('\n').slice(0, 8).map((line) => JSON.parse(line).messages));
  const greedy = await greedyOf(file('tern-5m-tq2_0.gguf'), [...PROMPTS, ...cases], 96);
  return rounded(await acceptanceOf(file(name), greedy));
}
