// The process of a peer, `node PEER.mjs MODEL THREADS CONTEXT`: a line of JSON on stdout once the model is loaded, then
// one for every line of JSON on stdin. The end of stdin ends it.
//
//   { ready: true, version, loadMs, llama, system }
//   { decode: N }               → { tokensPerSecond, text, prompt }   N greedy tokens after a prompt of `prompt` begin tokens
//   { prefill: N }              → { tokensPerSecond }                 N prompt tokens, until the next one is sampled
//   { sessions: S, tokens: N }  → { tokensPerSecond, text, prompt }   S sequences at once, of all; the first one's text
//   what the binding cannot do  → { unsupported: reason }
//   an exception                → { error: message }

import { spawn } from 'node:child_process';
import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';

import { versionOf } from './peers.mjs';

const CHANNEL = 3;

/** What a peer throws for what its binding cannot do. */
export class Unsupported extends Error {}

/**
 * @typedef {{ tokensPerSecond: number, text?: string, prompt?: number }} Reply
 * @typedef {object} Peer
 * @property {string} llama  its release of llama.cpp
 * @property {string} system  what its llama.cpp says of the processor
 * @property {(tokens: number) => Promise<Reply>} decode
 * @property {(tokens: number) => Promise<Reply>} prefill
 * @property {(sessions: number, tokens: number) => Promise<Reply>} sessions
 *
 * @param {string} name of the package
 * @param {(binding: any, options: { path: string, threads: number, context: number }) => Promise<Peer>} load
 */
export async function serve(name, load) {
  if (!process.env.PEER_CHANNEL) return withStdoutToItself();
  const [path, threads, context] = [process.argv[2], ...process.argv.slice(3).map(Number)];
  let code = 0;
  try {
    const binding = await import(name); // by no literal, or our type check would follow it into the package
    const start = performance.now();
    const peer = await load(binding, { path, threads, context });
    print({ ready: true, version: versionOf(name), loadMs: performance.now() - start, llama: peer.llama, system: peer.system });
    for await (const line of createInterface({ input: process.stdin })) print(await answer(peer, context, line));
  } catch (error) {
    print({ error: error.message });
    code = 1;
  }
  process.exit(code); // what the binding still holds goes with the process
}

// Native code of one of the bindings prints to stdout, and nothing but the file descriptor's number can stop it: the
// work is done by a child whose stdout is our stderr, and whose answers go to our stdout by another number.
function withStdoutToItself() {
  const stdio = ['inherit', 2, 2, 1];
  const child = spawn(process.execPath, process.argv.slice(1), { stdio, env: { ...process.env, PEER_CHANNEL: String(CHANNEL) } });
  process.on('SIGTERM', () => child.kill());
  child.on('exit', (code, signal) => {
    if (signal) process.removeAllListeners(signal).kill(process.pid, signal);
    else process.exitCode = code;
  });
}

function print(reply) {
  writeSync(CHANNEL, `${JSON.stringify(reply)}\n`);
}

async function answer(peer, context, line) {
  try {
    const { decode, prefill, sessions, tokens } = JSON.parse(line);
    if (decode) return await peer.decode(fitting(decode, context));
    if (prefill) return await peer.prefill(fitting(prefill, context));
    if (sessions) return await peer.sessions(sessions, fitting(tokens, context));
    throw new RangeError(`not a request: ${line}`);
  } catch (error) {
    return error instanceof Unsupported ? { unsupported: error.message } : { error: error.message };
  }
}

// Both bindings would shift the context and go on. Two cells are for the begin tokens.
function fitting(tokens, context) {
  if (!Number.isInteger(tokens) || tokens < 1) throw new RangeError(`not a number of tokens: ${tokens}`);
  if (tokens + 2 > context) throw new RangeError(`${tokens} tokens do not fit a context of ${context}`);
  return tokens;
}

/**
 * Ids of a prompt, all over the vocabulary.
 * @param {number} i
 */
export const promptId = (i) => ((i * 7919) % 20000) + 100;

/**
 * @template T
 * @param {number} tokens that `work` makes
 * @param {() => Promise<T>} work
 * @returns {Promise<{ tokensPerSecond: number, result: T }>}
 */
export async function timed(tokens, work) {
  const start = performance.now();
  const result = await work();
  return { tokensPerSecond: (1000 * tokens) / (performance.now() - start), result };
}
