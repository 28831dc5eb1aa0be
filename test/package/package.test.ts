import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';

const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as Record<string, Record<string, string>>;
const declarations = readdirSync('dist', { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.d.ts'));

/** Files that the public declarations reach. */
function reachable(from: string, seen = new Set<string>()): Set<string> {
  if (seen.has(from)) return seen;
  seen.add(from);
  const source = readFileSync(`dist/${from}`, 'utf8');
  for (const [, name] of source.matchAll(/from '(\.\.?\/[\w./-]+)\.js'/g)) reachable(join(dirname(from), `${name}.d.ts`), seen);
  return seen;
}

describe('the package', () => {
  test('has two production dependencies', () => {
    expect(Object.keys(manifest['dependencies'] ?? {}).sort()).toEqual(['node-gyp-build', 'zod']);
    expect(manifest['optionalDependencies'] ?? {}).toEqual({});
  });

  test('shows no zod type', () => {
    const files = [...reachable('index.d.ts')];
    expect(files.length).toBeGreaterThan(8);
    expect(declarations).toEqual(expect.arrayContaining(files));
    for (const file of files) expect(readFileSync(`dist/${file}`, 'utf8'), file).not.toMatch(/\bzod\b/);
  });

  test('imports without opening the addon, and prints nothing', () => {
    const body = `
      const before = process.report.getReport().sharedObjects.length;
      const ternion = await import('ternion');
      const after = process.report.getReport().sharedObjects.filter((path) => path.endsWith('.node'));
      console.log(JSON.stringify([Object.keys(ternion).length > 5, before > 0, after]));`;
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', body], { encoding: 'utf8' });
    expect(JSON.parse(output)).toEqual([true, true, []]);
  });
});
