// The other bindings that the benchmark measures beside ours, each in a process of its own.

import { spawn } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { LOG, ROOT, exclusively, run } from '../../scripts/run.mjs';
import { step } from '../../scripts/progress.mjs';

const FOLDER = join(ROOT, 'bench', 'peers');
const PROGRAMS = { 'node-llama-cpp': 'node-llama-cpp.mjs', '@fugood/llama.node': 'llama-node.mjs' };
const STDERR_LINES = 8;

/**
 * Installs the peers where that is needed. Never throws: `reason` says why there are none.
 * @returns {Promise<{ names: string[], versions: Record<string, string>, reason?: string }>}
 */
export async function ensurePeers() {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    return none(`bench/peers pins binaries for linux x64, and this is ${process.platform} ${process.arch}`);
  }
  try {
    if (!packagesAreFresh()) await exclusively(install);
    const names = Object.keys(PROGRAMS);
    return { names, versions: Object.fromEntries(names.map((name) => [name, versionOf(name)])) };
  } catch (error) {
    return none(reasonOf(error));
  }
}

const none = (reason) => ({ names: [], versions: {}, reason });

async function install() {
  if (packagesAreFresh()) return;
  const npm = process.env.npm_execpath ? [process.execPath, process.env.npm_execpath] : ['npm'];
  const args = ['ci', '--prefix', FOLDER, '--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund'];
  await step('npm packages of the peers', () => run(npm[0], [...npm.slice(1), ...args]));
}

// npm writes its own copy of the lock last.
function packagesAreFresh() {
  const installed = join(FOLDER, 'node_modules', '.package-lock.json');
  return existsSync(installed) && statSync(installed).mtimeMs >= statSync(join(FOLDER, 'package-lock.json')).mtimeMs;
}

// The reason goes into committed results: npm's code only, since its sentences name this machine's folders and registry.
function reasonOf(error) {
  const code = /^npm (?:error|ERR!) code (\S+)/m.exec(error.message)?.[1];
  if (code) return `npm ci failed with ${code}`;
  return error.message.split('\n').at(-1).replaceAll(LOG, 'the log').replaceAll(ROOT, '.');
}

/** @param {string} name of a package in this folder's node_modules */
export function versionOf(name) {
  return JSON.parse(readFileSync(join(FOLDER, 'node_modules', name, 'package.json'), 'utf8')).version;
}

/**
 * Starts a peer and resolves once it has loaded the model. serve.mjs tells what it can be asked.
 * @param {string} name
 * @param {{ path: string, threads: number, context: number }} options
 */
export async function openPeer(name, { path, threads, context }) {
  const program = join(FOLDER, PROGRAMS[name]);
  const child = spawn(process.execPath, [program, path, String(threads), String(context)], { stdio: 'pipe' });
  const waiting = [];
  const complaints = [];
  let ended;

  const next = () => new Promise((resolve, reject) => (ended ? reject(ended) : waiting.push({ resolve, reject })));
  const closed = new Promise((resolve) => {
    const end = (how) => {
      ended ??= new Error([`${name} ended: ${how}`, ...complaints].join('\n'));
      for (const { reject } of waiting.splice(0)) reject(ended);
      resolve();
    };
    child.on('error', (error) => end(error.message));
    child.on('close', (code, signal) => end(signal ?? `code ${code}`));
  });
  child.stdin.on('error', () => {}); // 'close' tells
  createInterface({ input: child.stderr }).on('line', (line) => {
    complaints.push(line);
    if (complaints.length > STDERR_LINES) complaints.shift();
  });
  createInterface({ input: child.stdout }).on('line', (line) => waiting.shift()?.resolve(JSON.parse(line)));

  const close = () => {
    child.stdin.end();
    return closed;
  };
  const { ready, error, ...facts } = await next();
  if (!ready) {
    await close();
    throw new Error(`${name} did not load the model: ${error}`);
  }
  return {
    name,
    ...facts,
    /** @param {object} request */
    ask: (request) => {
      child.stdin.write(`${JSON.stringify(request)}\n`);
      return next();
    },
    /** Resolves when the process is gone. */
    close,
  };
}
