// What the dense model answers to the held-out cases, through llama.cpp's own program: rendered prompts with tools are
// nothing that a session takes as text.

import { execFile } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { isDeepStrictEqual, promisify } from 'node:util';
import { join } from 'node:path';

const LONGEST = 160; // tokens of an answer

/** Kind → [right, asked], greedy. */
export async function answersOf(program, path, folder, { onCase, kinds } = {}) {
  const result = {};
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.jsonl')).sort()) {
    const kind = file.replace('.jsonl', '');
    if (kinds && !kinds.includes(kind)) continue;
    const cases = readFileSync(join(folder, file), 'utf8').trim().split('\n').map((line) => JSON.parse(line));
    let right = 0;
    for (const each of cases) {
      right += isRight(kind, await answer(program, path, each.prompt), each.expect) ? 1 : 0;
      onCase?.();
    }
    result[kind] = [right, cases.length];
  }
  return result;
}

async function answer(program, path, prompt) {
  const args = ['-m', path, '-dev', 'none', '-no-cnv', '--no-escape', '-p', prompt, '-n', String(LONGEST), '--temp', '0', '-c', '2048', '-t', '1', '--no-display-prompt', '--special'];
  const { stdout } = await promisify(execFile)(program, args);
  return stdout.split(/<\|im_end\|>|<\|endoftext\|>|\[end of text\]/)[0];
}

/** As `evaluate.py` judges. */
function isRight(kind, text, expect) {
  const trimmed = text.trim();
  if (kind === 'json') return isDeepStrictEqual(parsed(trimmed), expect);
  if (kind === 'tool') return isDeepStrictEqual(parsed(/^<tool_call>\n([^]*)\n<\/tool_call>$/.exec(trimmed)?.[1]), expect);
  if (kind === 'recall') return new RegExp(`\\b${expect.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}\\b`).test(text);
  if (kind === 'think') return trimmed.startsWith('<think>') && trimmed.split('</think>').at(-1).trim() === expect;
  return trimmed === expect;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
