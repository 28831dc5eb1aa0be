import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { errorCodes, samplingDefaults } from '../../dist/index.js';

const read = (path: string) => readFileSync(path, 'utf8');
const pages = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'models/README.md', 'vendor/README.md', ...readdirSync('docs').map((name) => `docs/${name}`)];

test('docs/errors.md is the catalogue', () => {
  const rows = [...read('docs/errors.md').matchAll(/^\| `(ERR_\w+)` \| (.*) \|$/gm)].map(([, code, text]) => [code, text]);
  expect(Object.fromEntries(rows)).toEqual(errorCodes);
});

test('docs/sampling.md gives the defaults in force', () => {
  const page = read('docs/sampling.md');
  for (const [option, value] of Object.entries(samplingDefaults)) {
    expect(page, option).toContain(`\`${option}\``);
    if (typeof value === 'number') {
      const row = page.split('\n').find((line) => line.startsWith('|') && line.includes(`\`${option}\``));
      expect(row?.split(' | ')[1], option).toBe(String(value));
    }
  }
});

test.each(pages)('%s links to what is there', (page) => {
  for (const [, target] of read(page).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
    expect(existsSync(join(dirname(page), target ?? '')), target).toBe(true);
  }
  for (const [, path] of read(page).matchAll(/`((?:bench|lib|native|test|vendor|examples|scripts)\/[\w./-]+\.\w+)`/g)) {
    expect(existsSync(path ?? ''), path).toBe(true);
  }
});
