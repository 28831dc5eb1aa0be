// Everything that is measured beside ternion, as peers of ternion/bench.

import { join } from 'node:path';

import { Skipped, llamaBatchedBench, llamaBench } from '../dist/bench/index.js';
import { ROOT, ask } from '../scripts/run.mjs';
import { ensurePeers, openPeer } from './peers/peers.mjs';
import { openServer } from './server.mjs';
import { BIN } from './upstream.mjs';

// Of one conversation; what is measured of the other bindings and of the server fits.
const CONTEXT = 1280;
const SESSIONS = 16;

/**
 * llama-bench, llama-batched-bench and llama-server of the vendored tree; builds of other forks' llama-bench (`forks`:
 * their paths); other Node bindings, with one thread and with all.
 * @param {object} settings  what `benchmark` tells its peers
 * @param {{ forks: string[], missing: object[] }} options  `missing` takes what could not be had, with the reason
 */
export async function openPeers(settings, { forks, missing }) {
  const { path, threads } = settings;
  const version = ask('git', ['-C', ROOT, 'describe', '--always', '--dirty']) ?? 'unknown';
  const peers = [
    { ...llamaBench(join(BIN, 'llama-bench'), settings), version },
    { ...llamaBatchedBench(join(BIN, 'llama-batched-bench'), settings), version },
    ...forks.map((program, i) => llamaBench(program, { ...settings, name: `llama-bench of fork ${i + 1}` })),
  ];
  try {
    const server = await openServer({ path, threads, sequences: SESSIONS, context: CONTEXT });
    peers.push({
      name: 'llama-server',
      version,
      prefill: async (tokens) => (await server.prefill(tokens)).tokensPerSecond,
      decode: atDepth0(async (tokens) => (await server.decode(tokens)).tokensPerSecond),
      sessions: async (count, tokens) => (await server.sessions(count, tokens)).tokensPerSecond,
      close: server.close,
    });
    const { names, reason } = await ensurePeers();
    for (const name of names) {
      for (const n of new Set([1, threads])) await addBinding(name, n, path, peers, missing);
    }
    if (reason) missing.push({ test: 'all', system: 'other Node bindings', reason });
    return peers;
  } catch (error) {
    for (const peer of peers) await peer.close?.();
    throw error;
  }
}

async function addBinding(name, threads, path, peers, missing) {
  const system = `${name}, ${threads} thread${threads === 1 ? '' : 's'}`;
  let peer;
  try {
    peer = await openPeer(name, { path, threads, context: CONTEXT });
    peers.push(await adapted(system, peer));
  } catch (error) {
    await peer?.close();
    missing.push({ test: 'all', system, reason: error.message });
  }
}

// A binding without the processor's vector instructions takes minutes for what others do in seconds.
const LONGEST_SAMPLE = 20; // seconds
const PROBE = 8; // tokens

async function adapted(name, peer) {
  const ask = async (request) => {
    const reply = await peer.ask(request);
    if (reply.unsupported) return new Skipped(reply.unsupported);
    if (reply.error) throw new Error(`${name}: ${reply.error}`);
    return reply.tokensPerSecond;
  };
  // A small sample of the same kind tells, once, how long one takes.
  const rates = new Map();
  const inTime = async (tokens, request, small) => {
    const kind = Object.keys(small).join();
    if (!rates.has(kind)) rates.set(kind, await ask(small));
    const rate = rates.get(kind);
    if (rate instanceof Skipped) return rate;
    const seconds = Math.round(tokens / rate);
    return seconds > LONGEST_SAMPLE ? new Skipped(`at ${rate.toFixed(1)} tok/s a sample would take ${seconds} s`) : ask(request);
  };
  return {
    name,
    version: [peer.version, peer.llama].filter(Boolean).join(', '),
    prefill: (tokens) => inTime(tokens, { prefill: tokens }, { prefill: PROBE }),
    decode: atDepth0((tokens) => inTime(tokens, { decode: tokens }, { decode: PROBE })),
    sessions: (count, tokens) => inTime(count * tokens, { sessions: count, tokens }, { sessions: count, tokens: 2 }),
    close: () => peer.close(),
  };
}

function atDepth0(decode) {
  return (tokens, depth) => (depth === 0 ? decode(tokens) : Promise.resolve(new Skipped('measured at depth 0 only')));
}
