// Everything that is measured beside ternion, as peers of ternion/bench.

import { join } from 'node:path';

import { Skipped, llamaBatchedBench, llamaBench } from '../dist/bench/index.js';
import { ensurePeers, openPeer } from './peers/peers.mjs';
import { openServer } from './server.mjs';
import { BIN } from './upstream.mjs';

const CPU_ONLY = ['-dev', 'none'];
// Of one conversation; what is measured of the other bindings and of the server fits.
const CONTEXT = 1024;
const SESSIONS = 16;

/**
 * llama-bench, llama-batched-bench and llama-server of the vendored tree; builds of other forks' llama-bench (`forks`:
 * their paths); other Node bindings, with one thread and with all.
 * @param {{ path: string, threads: number, forks: string[] }} options
 * @returns the peers, and which could not be had, with the reason
 */
export async function openPeers({ path, threads, forks }) {
  const peers = [
    llamaBench(join(BIN, 'llama-bench'), { path, threads, args: CPU_ONLY }),
    llamaBatchedBench(join(BIN, 'llama-batched-bench'), { path, threads, args: CPU_ONLY }),
    ...forks.map((program, i) => llamaBench(program, { path, threads, name: `llama-bench of fork ${i + 1}` })),
  ];
  const missing = [];
  try {
    const server = await openServer({ path, threads, sequences: SESSIONS, context: CONTEXT });
    peers.push({
      name: 'llama-server',
      prefill: async (tokens) => (await server.prefill(tokens)).tokensPerSecond,
      decode: atDepth0(async (tokens) => (await server.decode(tokens)).tokensPerSecond),
      sessions: async (count, tokens) => (await server.sessions(count, tokens)).tokensPerSecond,
      close: server.close,
    });
    const { names, reason } = await ensurePeers();
    for (const name of names) {
      for (const n of new Set([1, threads])) {
        const system = `${name}, ${n} thread${n === 1 ? '' : 's'}`;
        try {
          peers.push(await adapted(system, await openPeer(name, { path, threads: n, context: CONTEXT })));
        } catch (error) {
          missing.push({ test: 'all', system, reason: error.message });
        }
      }
    }
    if (reason) missing.push({ test: 'all', system: 'other Node bindings', reason });
    return { peers, missing };
  } catch (error) {
    for (const peer of peers) await peer.close?.();
    throw error;
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
  const rate = await ask({ decode: PROBE });
  const inTime = (tokens, request) => {
    const seconds = Math.round(tokens / rate);
    return seconds > LONGEST_SAMPLE ? Promise.resolve(new Skipped(`at ${rate.toFixed(1)} tok/s a sample would take ${seconds} s`)) : ask(request);
  };
  return {
    name,
    prefill: (tokens) => inTime(tokens, { prefill: tokens }),
    decode: atDepth0((tokens) => ask({ decode: Math.max(PROBE, Math.min(tokens, Math.floor(LONGEST_SAMPLE * rate))) })),
    sessions: (count, tokens) => inTime(count * tokens, { sessions: count, tokens }),
    close: () => peer.close(),
  };
}

function atDepth0(decode) {
  return (tokens, depth) => (depth === 0 ? decode(tokens) : Promise.resolve(new Skipped('measured at depth 0 only')));
}
