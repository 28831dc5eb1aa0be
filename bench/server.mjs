// llama.cpp's HTTP server, from the same source, as a client of it sees its speed.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { BIN } from './upstream.mjs';

const HOST = '127.0.0.1';
const LOG_LINES = 20;
const START_MS = 120_000;
const STOP_MS = 10_000;

/**
 * Starts the server on the CPU and waits until its model is loaded. `setUp({ server: true })` builds it.
 * @param {{ path: string, threads: number, sequences?: number, context: number }} options
 *   `context`: tokens of the longest conversation, as in `loadModel`; there is room for `sequences` of them
 */
export async function openServer({ path, threads, sequences = 1, context }) {
  const { port, explain, close } = await start([
    '-m', path, '-dev', 'none', '-t', threads, '-np', sequences, '-kvu', '-c', context * sequences, '-fit', 'off',
    // A request would otherwise first save what the one before it left. The folder only switches erasing on.
    '--cache-ram', 0, '--slot-save-path', tmpdir(),
    '--no-ui', '--host', HOST, '--port', 0,
  ]);

  // What a sequence leaves in the shared KV cache would slow down the next sample.
  const erase = async (count) => {
    for (let i = 0; i < count; i++) await post(port, `/slots/${i}?action=erase`, {}, () => {});
  };
  const sample = async (prompt, count, tokens) => {
    if (count > sequences) throw new RangeError(`${count} sessions, but the server has ${sequences} sequences`);
    try {
      const begin = performance.now();
      const results = await Promise.all(Array.from({ length: count }, (_, i) => complete(port, prompt, i, tokens)));
      const seconds = (Math.max(...results.map((result) => result.end)) - begin) / 1000;
      await erase(count);
      return { text: results[0].text, seconds };
    } catch (error) {
      throw explain(error);
    }
  };

  return {
    /** Tokens per second from the request to the last event: prefill of the begin token, decoding, streaming. */
    decode: async (tokens) => {
      const { text, seconds } = await sample('', 1, tokens);
      return { tokensPerSecond: tokens / seconds, text };
    },
    /** Tokens per second from the request to the first token after so many. */
    prefill: async (tokens) => {
      const prompt = Array.from({ length: tokens }, (_, i) => ((i * 7919) % 20000) + 100);
      const { seconds } = await sample(prompt, 1, 1);
      return { tokensPerSecond: tokens / seconds };
    },
    /** Tokens per second of all streams together, from the requests to the last event of the slowest. */
    sessions: async (count, tokens) => {
      const { seconds } = await sample('', count, tokens);
      return { tokensPerSecond: (count * tokens) / seconds };
    },
    close,
  };
}

/** One greedy completion, streamed. `end` is when its last event came. */
async function complete(port, prompt, slot, tokens) {
  const greedy = { stream: true, temperature: 0, ignore_eos: true, cache_prompt: false };
  let text = '';
  let last;
  let end;
  await post(port, '/completion', { ...greedy, prompt, id_slot: slot, n_predict: tokens }, (event) => {
    text += event.content;
    if (!event.stop) return;
    end = performance.now();
    last = event;
  });
  assert.equal(last?.tokens_predicted, tokens, 'as many tokens as were asked for');
  // An empty text is the begin token alone.
  assert.equal(last.timings.prompt_n, prompt.length || 1, 'the whole prompt was processed');
  return { text, end };
}

/**
 * Posts `body`; resolves at the end of the answer. A connection each: the server drops idle ones, which a thread that
 * is blocked by another sample would learn too late.
 */
export function post(port, path, body, onEvent = () => {}) {
  return new Promise((resolve, reject) => {
    const options = { host: HOST, port, path, method: 'POST', agent: false, headers: { 'content-type': 'application/json' } };
    const call = request(options, (answer) => {
      let rest = '';
      answer.setEncoding('utf8').on('error', reject);
      answer.on('data', (chunk) => {
        const lines = (rest + chunk).split('\n');
        rest = lines.pop();
        if (answer.statusCode !== 200) return;
        for (const line of lines) if (line.startsWith('data: ')) onEvent(JSON.parse(line.slice('data: '.length)));
      });
      answer.on('end', () => {
        if (answer.statusCode === 200) resolve();
        else reject(new Error(`llama-server answered ${path} with ${answer.statusCode}: ${rest}`));
      });
    });
    call.on('error', reject).end(JSON.stringify(body));
  });
}

/** Starts the program. `explain` adds the end of its log to an error. */
export async function start(args) {
  const child = spawn(join(BIN, 'llama-server'), args.map(String), { stdio: ['ignore', 'pipe', 'pipe'] });
  const log = [];
  const explain = (error) => new Error([error.message, ...log].join('\n'), { cause: error });
  const exited = once(child, 'exit'); // rejects when there is no such program
  const orphan = () => child.kill('SIGKILL');
  process.once('exit', orphan);

  const close = async () => {
    process.off('exit', orphan);
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    await exited.finally(() => clearTimeout(timer));
  };

  let timer;
  const listening = new Promise((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        log.push(line);
        if (log.length > LOG_LINES) log.shift();
        const port = /listening on http:\/\/[\d.]+:(\d+)/.exec(line)?.[1];
        if (port) resolve(Number(port));
      });
    }
    exited.then(([code, signal]) => reject(new Error(`llama-server ended (${signal ?? code})`)), reject);
    timer = setTimeout(() => reject(new Error(`llama-server was not ready after ${START_MS / 1000} s`)), START_MS);
  });
  try {
    const port = await listening; // said once the model is loaded
    await healthy(port);
    return { port, explain, close };
  } catch (error) {
    await close().catch(() => {}); // it never started
    throw explain(error);
  } finally {
    clearTimeout(timer);
  }
}

function healthy(port) {
  return new Promise((resolve, reject) => {
    const call = request({ host: HOST, port, path: '/health', agent: false }, (answer) => {
      answer.resume();
      if (answer.statusCode === 200) resolve();
      else reject(new Error(`llama-server is not healthy: ${answer.statusCode}`));
    });
    call.on('error', reject).end();
  });
}
