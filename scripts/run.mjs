// Runs the tools of a build: everything they print goes to .build/log, and its end is shown when one fails.

import { spawn, spawnSync } from 'node:child_process';
import { appendFileSync, createWriteStream, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
export const WORK = join(ROOT, '.build');
export const LOG = join(WORK, 'log');

/** A failure that is the user's to read: printed without a stack. */
export class SetupError extends Error {
  name = 'SetupError';
}

/**
 * Runs a command. `onLine` sees every line it prints.
 * @param {string} command
 * @param {string[]} args
 * @param {{ onLine?: (line: string) => void, env?: NodeJS.ProcessEnv }} [options]
 */
export function run(command, args, { onLine, env } = {}) {
  mkdirSync(WORK, { recursive: true });
  appendFileSync(LOG, `\n$ ${[command, ...args].join(' ')}\n`);
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: ROOT, env: env ?? process.env, stdio: ['ignore', 'pipe', 'pipe'] });
    const log = createWriteStream(LOG, { flags: 'a' });
    const tail = [];
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        log.write(`${line}\n`);
        tail.push(line);
        if (tail.length > 200) tail.shift();
        onLine?.(line);
      });
    }
    child.on('error', (error) => {
      const missing = error.code === 'ENOENT' ? `${command} was not found on the PATH` : error.message;
      reject(new SetupError(missing));
    });
    child.on('close', (code, signal) => {
      log.end();
      if (code === 0) resolve();
      else reject(new SetupError(`${excerpt(tail)}\n${command} failed (${signal ?? code}); all of its output: ${LOG}`));
    });
  });
}

// Compilers bury the reason: from the first error on, else the end.
function excerpt(lines) {
  const first = lines.findIndex((line) => /\berror\b|CMake Error/i.test(line));
  return (first < 0 ? lines.slice(-15) : lines.slice(first, first + 15)).join('\n');
}

/** Runs a command in the foreground. Returns its exit code; Ctrl-C is the command's to handle. */
export function runForeground(command, args, env = process.env) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: process.cwd(), env, stdio: 'inherit' });
    const ignore = () => {};
    const pass = () => child.kill('SIGTERM');
    process.on('SIGINT', ignore).on('SIGTERM', pass);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      process.off('SIGINT', ignore).off('SIGTERM', pass);
      resolve(code ?? 128 + (signal === 'SIGINT' ? 2 : 15));
    });
  });
}

/** First output of a small command, or undefined when it is missing or fails. */
export function ask(command, args) {
  const result = spawnSync(command, args, { encoding: 'utf8', cwd: ROOT });
  return result.status === 0 ? result.stdout.trim() : undefined;
}

/** Runs a main function: prints what is meant for the user and sets the exit code. */
export async function main(body) {
  try {
    process.exitCode = (await body(process.argv.slice(2))) ?? 0;
  } catch (error) {
    if (!['SetupError', 'FetchError', 'PatchError'].includes(error.name)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}

/** Starts a new log. */
export function clearLog() {
  mkdirSync(WORK, { recursive: true });
  writeFileSync(LOG, '');
}

/**
 * Does `work` while no other process of this checkout does such work.
 * @template T
 * @param {() => Promise<T>} work
 */
export async function exclusively(work) {
  const lock = join(WORK, 'lock');
  for (let told = false; !tryLock(lock); told = true) {
    if (!told) process.stderr.write(`waiting for another build in this folder (if there is none, remove ${lock})\n`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  holding = true;
  try {
    return await work();
  } finally {
    holding = false;
    if (holderOf(lock) === String(process.pid)) rmSync(lock, { force: true });
  }
}

let holding = false;

function tryLock(lock) {
  mkdirSync(WORK, { recursive: true });
  try {
    writeFileSync(lock, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
    const holder = holderOf(lock);
    if (holder !== undefined && !lives(holder, lock)) removeLockOf(holder, lock);
    return false;
  }
}

function holderOf(lock) {
  try {
    return readFileSync(lock, 'utf8');
  } catch {
    return undefined; // it has just gone
  }
}

// Others may do the same: what is removed must still be what was looked at.
function removeLockOf(holder, lock) {
  const aside = `${lock}.${process.pid}`;
  try {
    renameSync(lock, aside);
    if (readFileSync(aside, 'utf8') === holder) rmSync(aside, { force: true });
    else renameSync(aside, lock);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
}

function lives(holder, lock) {
  try {
    if (holder === '') return Date.now() - statSync(lock).mtimeMs < 5000; // created, and not written yet
    const pid = Number(holder);
    if (pid === process.pid) return holding; // else of one that had this number before
    return pid > 0 && (process.kill(pid, 0), true);
  } catch (error) {
    return error.code === 'EPERM'; // somebody else's, but alive
  }
}
