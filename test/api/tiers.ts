// What the tests of the tiers share: conversations whose every token is no toss-up, folders of evicted state seen from outside, and
// the child process that walks.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { loadModel } from '../../dist/index.js';
import type { CacheOptions, Message, Model } from '../../dist/index.js';

export const modelPath = 'models/tern-5m-tq2_0.gguf';
export const answerTokens = 6;
/** Room for about one and a half of the conversations: each turn evicts. */
export const context = 256;
export const asked = { temperature: 0, ignoreEos: true, maxTokens: answerTokens } as const;

export function load(cache: CacheOptions, more: { sequences?: number; kvTokens?: number } = {}): Promise<Model> {
  return loadModel(modelPath, { devices: ['cpu'], threads: 1, context, cache: { ramBytes: 0, ...cache }, ...more });
}

export interface Turn {
  readonly question: string;
  readonly answer: string;
}
export interface Conversation {
  readonly system: string;
  readonly turns: readonly Turn[];
}

const names = ['Ella', 'Finn', 'Juno', 'Anna', 'Arlo', 'Ned', 'Mia', 'Tom'];
const topics = ['a fox', 'a basket of apples', 'the tall tower', 'a shy cat', 'the river', 'mushrooms', 'a red kite', 'an old bear', 'the garden', 'a small boat', 'honey', 'the market'];

/** What is asked at turn `t`: all that came before and the question. */
export function messagesAt({ system, turns }: Conversation, t: number): Message[] {
  return [
    { role: 'system', content: system },
    ...turns.slice(0, t).flatMap(({ question, answer }): Message[] => [
      { role: 'user', content: question },
      { role: 'assistant', content: answer },
    ]),
    { role: 'user', content: turns[t]!.question },
  ];
}

/**
 * Conversations, each of questions to which an undisturbed model is sure of every token of its answer, whether it is fed everything
 * or only what is new: sums that round differently in batches of another shape cannot change them.
 */
export async function surely(conversations: number, turns: number): Promise<Conversation[]> {
  const model = await loadModel(modelPath, { devices: ['cpu'], threads: 1, context: 512, cache: { ramBytes: 0 } });
  try {
    const found: Conversation[] = [];
    for (let c = 0; c < conversations; ++c) {
      const system = `You are ${names[c % names.length]!} number ${c}, and you tell long stories about ${topics[c % topics.length]!} to small children every evening, when the sun has gone down behind the hills and everybody sits around the fire with a cup of warm milk and a piece of bread.`;
      let conversation: Conversation = { system, turns: [] };
      for (let q = 0; conversation.turns.length < turns; ++q) {
        if (q > 60) throw new Error(`no question of which the model is sure in conversation ${c}`);
        const question = `Please tell me something about ${topics[(q * 5 + c) % topics.length]!} and ${names[(q + c) % names.length]!}.`;
        const trial = { system, turns: [...conversation.turns, { question, answer: '' }] };
        await using session = await model.session();
        const result = await session.chat(messagesAt(trial, conversation.turns.length), { ...asked, logprobs: 2 });
        const sure = result.logprobs.every(({ token, top }) => top[0]!.token === token && top[0]!.logprob - top[1]!.logprob > 0.1);
        if (sure) conversation = { system, turns: [...conversation.turns, { question, answer: result.text }] };
      }
      found.push(conversation);
    }
    return found;
  } finally {
    await model.dispose();
  }
}

export class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'ternion-tiers-'));
  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

export interface StateFile {
  readonly path: string;
  readonly bytes: number;
  /** Under its own name, not that of a write that is not over. */
  readonly named: boolean;
}

/** All files of state below a folder, those that go away meanwhile left out. */
export function stateFiles(folder: string): StateFile[] {
  return (existsSync(folder) ? readdirSync(folder, { recursive: true }) : [])
    .map((name) => join(folder, String(name)))
    .filter((path) => path.includes('.ternion-state'))
    .flatMap((path) => {
      const bytes = statSync(path, { throwIfNoEntry: false })?.size;
      return bytes === undefined ? [] : [{ path, bytes, named: path.endsWith('.ternion-state') }];
    });
}

export const totalBytes = (files: readonly StateFile[]): number => files.reduce((sum, { bytes }) => sum + bytes, 0);

export interface Head {
  readonly first: number;
  readonly tokens: readonly number[];
}

/** As docs/snapshot.md has them. */
export function headsOf(files: readonly StateFile[]): Head[] {
  return files.map(({ path }) => {
    const bytes = readFileSync(path);
    let at = 80;
    for (let left = bytes.readUInt32LE(52); left > 0; --left) at += 8 + bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4);
    const count = Number(bytes.readBigUInt64LE(56));
    return { first: bytes.readUInt32LE(48), tokens: Array.from({ length: count }, (_, i) => bytes.readInt32LE(at + 4 * i)) };
  });
}

/** How many of the prompt's tokens can be had from state: pieces that go on where others end. */
export function reachOf(heads: readonly Head[], prompt: Int32Array): number {
  const pieces = heads.map(({ first, tokens }) => {
    const differs = tokens.findIndex((token, i) => token !== prompt[i]);
    return { first, agreed: differs < 0 ? tokens.length : differs };
  });
  for (let reach = 0; ; ) {
    const best = Math.max(0, ...pieces.filter(({ first }) => first <= reach).map(({ agreed }) => agreed));
    if (best < reach + 32) return reach; // crumbs are not taken
    reach = best;
  }
}

export interface WalkOptions {
  readonly diskDir: string;
  readonly diskBytes: number;
  readonly ramBytes?: number;
  readonly conversations: readonly Conversation[];
  /** Turn at which each conversation goes on. */
  readonly at: readonly number[];
  /** Which one begins. */
  readonly begin: number;
  /** Turns until it ends by itself. */
  readonly most: number;
}
export type WalkLine =
  | { readonly type: 'ready'; readonly entries: number; readonly bytes: number }
  | { readonly type: 'turn'; readonly conversation: number; readonly turn: number; readonly text: string; readonly cached: number; readonly restores: number }
  | { readonly type: 'end'; readonly errors: number; readonly evictions: number };

/** The child process; `lines` is called for each line that it said. Resolves to its exit code or signal. */
export function walk(options: WalkOptions, lines: (line: WalkLine, child: ChildProcess) => void, env: Record<string, string> = {}): Promise<number | string | null> {
  const plan = join(mkdtempSync(join(tmpdir(), 'ternion-plan-')), 'plan.json');
  writeFileSync(plan, JSON.stringify(options));
  const child = spawn(process.execPath, ['test/api/tiers-child.mjs', plan], { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, ...env } });
  createInterface(child.stdout).on('line', (line) => {
    if (line.endsWith('}')) lines(JSON.parse(line) as WalkLine, child); // the last one may be cut off
  });
  return new Promise((resolve) => {
    child.on('close', (code, signal) => {
      rmSync(join(plan, '..'), { recursive: true });
      resolve(code ?? signal);
    });
  });
}

/** Whether {@link preload} works here. */
export const canPreload = process.platform === 'linux' && spawnSync('cc', ['--version']).status === 0;

/** The environment of a process in which these functions of C stand before those of the C library. */
export function preload(folder: string, code: string): Record<string, string> {
  const [source, library] = [join(folder, 'before.c'), join(folder, 'before.so')];
  writeFileSync(source, `#define _GNU_SOURCE\n#include <dlfcn.h>\n#define NEXT(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))\n${code}`);
  execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', library, source, '-ldl']);
  return { LD_PRELOAD: library };
}

/** Numbers in [0, 1), the same for the same seed. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}
