import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';

import { debianMirror, parseList, parseSources, readSources } from '../../scripts/apt-sources.mjs';

test('one-line style, with options and comments', () => {
  const text = [
    '# deb http://old.example bookworm main',
    'deb-src http://mirror.example/debian bookworm main',
    'deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://mirror.example/debian bookworm main contrib # ours',
    'deb http://mirror.example/debian-security bookworm-security main',
  ].join('\n');
  expect(parseList(text)).toEqual([
    {
      uri: 'http://mirror.example/debian',
      suites: ['bookworm'],
      components: ['main', 'contrib'],
      signedBy: '/usr/share/keyrings/a.gpg',
    },
    { uri: 'http://mirror.example/debian-security', suites: ['bookworm-security'], components: ['main'] },
  ]);
});

test('deb822 style: several suites and URIs, folded lines, comments, disabled stanzas, inline keys', () => {
  const text = `# a comment
Types: deb deb-src
URIs: http://a.example/debian
 http://b.example/debian
# another
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://c.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://d.example/debian
Suites: bookworm
Components: main
`;
  const suites = ['bookworm', 'bookworm-updates'];
  expect(parseSources(text)).toEqual([
    { uri: 'http://a.example/debian', suites, components: ['main'] },
    { uri: 'http://b.example/debian', suites, components: ['main'] },
  ]);
});

test('the mirror is that of the release itself, not of its updates or of other vendors', () => {
  const etc = mkdtempSync(join(tmpdir(), 'ternion-apt-'));
  mkdirSync(join(etc, 'sources.list.d'));
  writeFileSync(join(etc, 'sources.list.d', 'a-vendor.list'), 'deb http://vendor.example/apt stable main\n');
  writeFileSync(join(etc, 'sources.list.d', 'b.sources.disabled'), 'Types: deb\nURIs: http://off.example\nSuites: bookworm\nComponents: main\n');
  writeFileSync(
    join(etc, 'sources.list.d', 'debian.sources'),
    'Types: deb\nURIs: http://s.example\nSuites: bookworm-security\nComponents: main\n\nTypes: deb\nURIs: http://m.example\nSuites: bookworm\nComponents: main\n',
  );
  const sources = readSources(etc);
  expect(debianMirror(sources, 'bookworm')?.uri).toBe('http://m.example');
  expect(debianMirror(sources, 'forky')).toBeUndefined();
  rmSync(etc, { recursive: true, force: true });
});
