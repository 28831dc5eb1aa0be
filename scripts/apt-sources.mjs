// Reads apt's own configuration, to learn which mirror this machine uses for Debian packages.

import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/**
 * @typedef {object} Source
 * @property {string} uri
 * @property {string[]} suites
 * @property {string[]} components
 * @property {string} [signedBy]
 */

/** One-line style: `deb [signed-by=/a/key.gpg] URI suite component…`. @returns {Source[]} */
export function parseList(text) {
  const sources = [];
  for (const line of text.split('\n')) {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line);
    if (!match) continue;
    const [, options = '', uri, suite, components] = match;
    const signedBy = /(?:^|\s)signed-by=(\S+)/i.exec(options)?.[1];
    sources.push({
      uri,
      suites: [suite],
      components: components.split(/\s+/).filter(Boolean),
      ...(signedBy && { signedBy }),
    });
  }
  return sources;
}

/** deb822 style: stanzas of `Field: value`, a value going on in indented lines. @returns {Source[]} */
export function parseSources(text) {
  return text.split(/\n\s*\n/).flatMap((stanza) => {
    const fields = {};
    let field;
    for (const line of stanza.split('\n')) {
      if (line.startsWith('#')) continue;
      const match = /^([A-Za-z-]+):\s*(.*)$/.exec(line);
      if (match) {
        field = match[1].toLowerCase();
        fields[field] = match[2].trim();
      } else if (field && /^\s/.test(line)) {
        fields[field] += `\n${line.trim()}`;
      }
    }
    const words = (name) => (fields[name] ?? '').split(/\s+/).filter(Boolean);
    if (!words('types').includes('deb') || /^(no|false|0)$/i.test(fields.enabled ?? '')) return [];

    // A key may be written into the stanza itself; then it is not a path that we could pass on.
    const signedBy = (fields['signed-by'] ?? '').startsWith('/') ? fields['signed-by'] : undefined;
    return words('uris').map((uri) => ({
      uri,
      suites: words('suites'),
      components: words('components'),
      ...(signedBy && { signedBy }),
    }));
  });
}

/** Every enabled source of this machine. @returns {Source[]} */
export function readSources(etc = '/etc/apt') {
  const files = [join(etc, 'sources.list')];
  const parts = join(etc, 'sources.list.d');
  if (existsSync(parts)) files.push(...readdirSync(parts).sort().map((entry) => join(parts, entry)));

  return files.flatMap((file) => {
    if (!existsSync(file)) return [];
    if (file.endsWith('.list')) return parseList(readFileSync(file, 'utf8'));
    if (file.endsWith('.sources')) return parseSources(readFileSync(file, 'utf8'));
    return [];
  });
}

/**
 * The source that serves the running Debian release itself: its mirror has the other releases too.
 * @param {Source[]} sources
 * @param {string} codename
 */
export function debianMirror(sources, codename) {
  return sources.find((source) => source.suites.includes(codename) && source.components.includes('main'));
}
