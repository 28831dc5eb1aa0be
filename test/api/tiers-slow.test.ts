// A disk that takes a second for each file: a library in front of the C library's makes it so for files of state.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Folder, canPreload, preload } from './tiers.js';

// On Linux every path that leads to a file of state, and every fsync, sleeps; the names are those that glibc's headers make of the calls.
const slow = `
#include <string.h>
#include <sys/stat.h>
#include <stdio.h>
#include <unistd.h>
static void wait_for(const char * path) { if (!path || strstr(path, ".ternion-state")) usleep(1000000); }
int fsync(int fd) { wait_for(0); return NEXT(fsync)(fd); }
FILE * fopen(const char * path, const char * mode) { wait_for(path); return NEXT(fopen)(path, mode); }
FILE * fopen64(const char * path, const char * mode) { wait_for(path); return NEXT(fopen64)(path, mode); }
int rename(const char * from, const char * to) { wait_for(from); return NEXT(rename)(from, to); }
int remove(const char * path) { wait_for(path); return NEXT(remove)(path); }
int unlink(const char * path) { wait_for(path); return NEXT(unlink)(path); }
int lstat(const char * path, struct stat * out) { wait_for(path); return NEXT(lstat)(path, out); }
int stat(const char * path, struct stat * out) { wait_for(path); return NEXT(stat)(path, out); }
int lstat64(const char * path, struct stat64 * out) { wait_for(path); return NEXT(lstat64)(path, out); }
int stat64(const char * path, struct stat64 * out) { wait_for(path); return NEXT(stat64)(path, out); }
`;
test.skipIf(!canPreload)('decoding never waits for the disk (needs Linux and a C compiler)', () => {
  using folder = new Folder();
  const said = execFileSync(process.execPath, ['test/api/tiers-slow.mjs', join(folder.path, 'state')], { env: { ...process.env, ...preload(folder.path, slow) } });
  const { writing, restores, tokens, longest, waited } = JSON.parse(said.toString()) as Record<string, number>;
  expect(writing).toBeGreaterThan(0); // it was slow, indeed
  expect(restores).toBeGreaterThan(0);
  expect(waited).toBeGreaterThan(1000);
  expect(tokens).toBeGreaterThan(300);
  expect(longest).toBeLessThan(600);
});
