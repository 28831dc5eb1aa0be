// Applies our changes to the vendored source. A patch names what it changes by short anchors instead of quoting
// upstream's lines, and fails loudly when an anchor is gone. The format is described in README.md beside this file.

import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { PatchError } from './errors.mjs';

const HEADER_FIELDS = ['What', 'Why', 'Upstream', 'Until'];
const VERBS = ['replace', 'before', 'after'];

/**
 * @typedef {object} Edit
 * @property {string} file     path inside the source tree
 * @property {number} line     where the edit begins in the patch, for messages
 * @property {string} find     text that occurs exactly once in the file
 * @property {string} [then]   text whose first occurrence after `find` is the place meant
 * @property {string} [through] text at whose first occurrence after that place the replaced region ends
 * @property {string} [hash]   first 12 hex digits of the sha256 of that region
 * @property {'replace' | 'before' | 'after'} verb
 * @property {string} text     what is put there
 *
 * @typedef {object} Patch
 * @property {string} name
 * @property {Record<string, string>} header
 * @property {Edit[]} edits
 */

/** Reads one patch. @returns {Patch} */
export function parsePatch(source, name) {
  const blocks = splitBlocks(source.replaceAll('\r\n', '\n'), name);
  const header = parseHeader(blocks.shift().lines, name);
  const edits = [];
  let file;
  let edit;

  for (const { directive, argument, lines, line } of blocks) {
    const fail = (message) => {
      throw new PatchError(`${name}:${line}: ${message}`);
    };
    const text = lines.join('\n');

    if (directive === 'file') {
      if (edit) fail('the edit above has no replace, before or after');
      if (!argument) fail("'@@ file' needs a path");
      if (text.trim() !== '') fail("only blank lines may follow '@@ file'");
      file = argument;
    } else if (directive === 'find') {
      if (!file) fail("'@@ find' comes before any '@@ file'");
      if (edit) fail('the edit above has no replace, before or after');
      if (text === '') fail('the anchor is empty');
      edit = { file, line, find: text };
    } else if (!edit) {
      fail(`'@@ ${directive}' has no '@@ find' before it`);
    } else if (directive === 'then') {
      if (text === '') fail('the anchor is empty');
      edit.then = text;
    } else if (directive === 'through') {
      if (text === '') fail('the end of the region is empty');
      if (!/^([0-9a-f]{12}|\?)$/.test(argument)) {
        fail("'@@ through' needs the first 12 hex digits of the region's sha256 (write ? to be told)");
      }
      edit.through = text;
      edit.hash = argument;
    } else if (VERBS.includes(directive)) {
      if (directive !== 'replace' && edit.through !== undefined) fail("'@@ through' only goes with '@@ replace'");
      edits.push({ ...edit, verb: directive, text });
      edit = undefined;
    } else {
      fail(`'@@ ${directive}' is unknown; expected file, find, then, through, ${VERBS.join(', ')}`);
    }
  }

  if (edit) throw new PatchError(`${name}: the last edit has no replace, before or after`);
  if (edits.length === 0) throw new PatchError(`${name}: no edits`);
  return { name, header, edits };
}

/** Reads every patch of a folder, in the order of their names. @returns {Patch[]} */
export function readPatches(folder) {
  return patchFiles(folder).map((entry) => parsePatch(readFileSync(join(folder, entry), 'utf8'), entry));
}

/** Names of the patches in a folder, in order; none when git has no folder because it would be empty. */
export function patchFiles(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder).filter((entry) => entry.endsWith('.edit')).sort();
}

/**
 * Applies patches in order to the tree at `root`. Nothing is written unless every edit of every patch fits,
 * and one error lists all that do not.
 * @param {Patch[]} patches
 */
export function applyPatches(patches, root) {
  const contents = new Map();
  const problems = [];

  for (const patch of patches) {
    for (const edit of patch.edits) {
      try {
        if (!contents.has(edit.file)) contents.set(edit.file, readFileSync(join(root, edit.file), 'utf8'));
        contents.set(edit.file, applyEdit(contents.get(edit.file), edit));
      } catch (error) {
        const message = error.code === 'ENOENT' ? 'no such file in the source' : error.message;
        problems.push(`${patch.name}:${edit.line}: ${edit.file}: ${message}`);
      }
    }
  }

  if (problems.length > 0) throw new PatchError(problems.join('\n'));
  for (const [file, text] of contents) writeFileSync(join(root, file), text);
}

/** Applies one edit to a text. */
export function applyEdit(text, edit) {
  let start = findOnce(text, edit.find);
  let end = start + edit.find.length;

  if (edit.then !== undefined) {
    start = findAfter(text, edit.then, end);
    end = start + edit.then.length;
  }
  if (edit.through !== undefined) {
    end = findAfter(text, edit.through, end) + edit.through.length;
    checkRegion(text.slice(start, end), edit.hash);
  }

  switch (edit.verb) {
    case 'before':
      start = start === 0 ? 0 : text.lastIndexOf('\n', start - 1) + 1;
      return text.slice(0, start) + edit.text + '\n' + text.slice(start);
    case 'after': {
      const newline = text.indexOf('\n', end);
      end = newline < 0 ? text.length : newline;
      return text.slice(0, end) + '\n' + edit.text + text.slice(end);
    }
    default:
      return text.slice(0, start) + edit.text + text.slice(end);
  }
}

function findOnce(text, anchor) {
  const first = text.indexOf(anchor);
  if (first < 0) throw new PatchError(`anchor not found: ${quote(anchor)}`);
  if (text.indexOf(anchor, first + 1) >= 0) throw new PatchError(`anchor found more than once: ${quote(anchor)}`);
  return first;
}

function findAfter(text, anchor, from) {
  const at = text.indexOf(anchor, from);
  if (at < 0) throw new PatchError(`not found after the anchor: ${quote(anchor)}`);
  return at;
}

// A region is replaced without being quoted, so its hash is what tells us that upstream has changed it.
function checkRegion(region, expected) {
  const actual = createHash('sha256').update(region).digest('hex').slice(0, 12);
  if (actual !== expected) {
    throw new PatchError(`the replaced region has changed: sha256 ${actual}, expected ${expected}`);
  }
}

function quote(anchor) {
  const [first, ...rest] = anchor.split('\n');
  return rest.length > 0 ? `'${first}' …` : `'${first}'`;
}

function splitBlocks(source, name) {
  const blocks = [{ directive: 'header', argument: '', lines: [], line: 1 }];
  source.split('\n').forEach((text, index) => {
    if (!text.startsWith('@@')) {
      blocks.at(-1).lines.push(text);
      return;
    }
    const match = /^@@ (\w+)(?: +(\S.*?))? *$/.exec(text);
    if (!match) throw new PatchError(`${name}:${index + 1}: not a directive: '${text}'`);
    blocks.push({ directive: match[1], argument: match[2] ?? '', lines: [], line: index + 1 });
  });

  // Blank lines around the next edit are for the reader: they belong to nobody's text.
  for (const block of blocks) {
    const trim = VERBS.includes(block.directive) || block.directive === 'header';
    while (trim && block.lines.at(-1)?.trim() === '') block.lines.pop();
  }
  return blocks;
}

function parseHeader(lines, name) {
  const header = {};
  let field;
  for (const line of lines) {
    const match = /^([A-Z]\w*): +(\S.*)$/.exec(line);
    if (match) {
      field = match[1];
      header[field] = match[2];
    } else if (field && /^\s+\S/.test(line)) {
      header[field] += ' ' + line.trim();
    } else if (line.trim() !== '') {
      throw new PatchError(`${name}: not a header line: '${line}'`);
    }
  }
  const missing = HEADER_FIELDS.filter((wanted) => !header[wanted]);
  if (missing.length > 0) throw new PatchError(`${name}: the header lacks ${missing.join(', ')}`);
  return header;
}
