#!/usr/bin/env node
// npm test: the engine's C++ tests, then the TypeScript ones, then one line that counts both.
//
//   npm test -- PATTERN…      only the TypeScript tests whose file names match
//   --long                    also those that take long (npm run test:long)
//   --aarch64                 only the kernels' tests, compiled for ARM and emulated (npm run test:aarch64)
//   --with-aarch64            also those
//   --no-skips                a skipped test fails the run, unless its name says [needs hardware]

import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { AARCH64_FOLDER, FOLDER } from './native.mjs';
import { ROOT, WORK, main, runForeground } from './run.mjs';
import { VARIANTS } from './sanitize.mjs';
import { setUp, setUpAarch64, setUpVariant } from './setup.mjs';

await main(async (args) => {
  const own = ['--long', '--no-skips', '--aarch64', '--with-aarch64'];
  const filters = args.filter((arg) => !own.includes(arg));
  const here = !args.includes('--aarch64');
  const emulated = !here || args.includes('--with-aarch64');
  if (here) await setUp({ tests: true });
  const mutated = args.includes('--long') && (filters.length === 0 || filters.some((filter) => 'test/hostile/mutations.long.test.ts'.includes(filter)));
  if (here && mutated && process.platform === 'linux') await setUpVariant('mutations with AddressSanitizer', { ...VARIANTS.asan, targets: ['hostile_files_test'] });
  if (emulated) await setUpAarch64();

  const counts = [];
  if (emulated) counts.push(await runCtest(AARCH64_FOLDER));
  if (here && filters.length === 0) counts.push(await runCtest(FOLDER));
  if (here) counts.push(await runVitest(filters, args.includes('--long')));

  const sum = (key) => counts.reduce((total, count) => total + count[key], 0);
  const skipped = counts.flatMap((count) => count.skipped);
  const refused = args.includes('--no-skips') ? skipped.filter((name) => !name.includes('[needs hardware]')) : [];
  for (const name of skipped) console.log(`skipped: ${name}`);
  if (refused.length > 0) console.log(`${refused.length} of these tests could have run here`);

  console.log(`${sum('passed')} passed, ${sum('failed')} failed${skipped.length > 0 ? `, ${skipped.length} skipped` : ''}`);
  return counts.every((count) => count.ok) && refused.length === 0 ? 0 : 1;
});

async function runCtest(folder) {
  const report = join(WORK, 'ctest.xml');
  rmSync(report, { force: true });
  const args = ['--test-dir', folder, '--output-on-failure', '--output-junit', report];
  const code = await runForeground('ctest', args);
  const xml = existsSync(report) ? readFileSync(report, 'utf8') : '';
  const count = (name) => Number(new RegExp(`<testsuite[^>]*\\s${name}="(\\d+)"`).exec(xml)?.[1] ?? 0);
  const skipped = [...xml.matchAll(/<testcase name="([^"]*)"[^>]*status="(?:notrun|disabled)"/g)].map((match) => match[1]);
  const failed = count('failures') || (code === 0 ? 0 : 1);
  return { ok: code === 0, passed: count('tests') - count('failures') - skipped.length, failed, skipped };
}

async function runVitest(filters, long) {
  const report = join(WORK, 'vitest.json');
  rmSync(report, { force: true });
  const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs');
  const args = [vitest, 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`, ...filters];
  const code = await runForeground(process.execPath, args, { ...process.env, ...(long && { TERNION_LONG: '1' }) });
  if (!existsSync(report)) return { ok: false, passed: 0, failed: 1, skipped: [] };

  const { numPassedTests, numFailedTests, testResults } = JSON.parse(readFileSync(report, 'utf8'));
  const skipped = testResults
    .flatMap((file) => file.assertionResults)
    .filter((test) => ['pending', 'skipped', 'todo'].includes(test.status))
    .map((test) => test.fullName);
  // A file that does not even load has no tests to count.
  const broken = testResults.filter((file) => file.status === 'failed' && file.assertionResults.length === 0).length;
  const failed = numFailedTests + broken;
  return { ok: code === 0, passed: numPassedTests, failed: failed || (code === 0 ? 0 : 1), skipped };
}
