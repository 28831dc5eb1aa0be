import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { applyPatches, parsePatch } from '../../vendor/patch.mjs';

const HEADER = 'What: a\nWhy: b\n  and more\nUpstream: c\nUntil: d\n\n';
const SOURCE = 'int a() {\n    wait();\n}\nint b() {\n    wait();\n    go();\n}\n';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'ternion-patch-'));
  writeFileSync(join(root, 'x.c'), SOURCE);
  writeFileSync(join(root, 'y.c'), 'one two three\n');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const read = (file: string) => readFileSync(join(root, file), 'utf8');
const apply = (...edits: string[]) => {
  const text = edits.map((edit) => (edit.startsWith('@@ file') ? edit : `@@ file x.c\n${edit}`)).join('\n');
  applyPatches([parsePatch(HEADER + text, '0001-test.edit')], root);
};

describe('an edit', () => {
  test('replaces a part of a line', () => {
    apply('@@ find\nint a()\n@@ replace\nlong a(int "x\\n")');
    expect(read('x.c')).toBe(SOURCE.replace('int a()', 'long a(int "x\\n")'));
  });

  test('finds its place after an anchor that is unique', () => {
    apply('@@ find\nint b()\n@@ then\nwait();\n@@ replace\nyield();');
    expect(read('x.c')).toBe('int a() {\n    wait();\n}\nint b() {\n    yield();\n    go();\n}\n');
  });

  test('inserts whole lines before and after', () => {
    apply('@@ find\ngo()\n@@ before\n    ready();', '@@ find\ngo()\n@@ after\n    gone();\n');
    expect(read('x.c')).toContain('    ready();\n    go();\n    gone();\n}');
  });

  test('replaces a region whose hash it knows', () => {
    const hash = createHash('sha256').update('wait();\n    go();').digest('hex').slice(0, 12);
    apply(`@@ find\nint b()\n@@ then\nwait();\n@@ through ${hash}\ngo();\n@@ replace\nrun();`);
    expect(read('x.c')).toContain('int b() {\n    run();\n}');
  });

  test('refuses a region that has changed, and tells its hash', () => {
    expect(() => apply('@@ find\nint b()\n@@ through ?\ngo();\n@@ replace\nx')).toThrow(/changed: sha256 [0-9a-f]{12}/);
  });
});

describe('an anchor', () => {
  test('that is gone is an error with the place in the patch', () => {
    expect(() => apply('@@ find\nnowhere\n@@ replace\nx')).toThrow("0001-test.edit:8: x.c: anchor not found: 'nowhere'");
  });

  test('that occurs twice is an error', () => {
    expect(() => apply('@@ find\nwait();\n@@ replace\nx')).toThrow("anchor found more than once: 'wait();'");
  });

  test('in a missing file is an error', () => {
    expect(() => apply('@@ file z.c\n@@ find\na\n@@ replace\nx')).toThrow('z.c: no such file');
  });
});

test('nothing is written when any edit fails, and all failures are listed', () => {
  const good = '@@ file y.c\n@@ find\ntwo\n@@ replace\n2';
  expect(() => apply(good, '@@ find\nnowhere\n@@ replace\nx', '@@ find\nwait();\n@@ replace\nx')).toThrow(
    /not found.*\n.*more than once/,
  );
  expect(read('y.c')).toBe('one two three\n');
  expect(read('x.c')).toBe(SOURCE);
});

test.each([
  ['What: a\n@@ file x\n@@ find\na\n@@ replace\nb', 'the header lacks Why, Upstream, Until'],
  [`${HEADER}@@ find\na\n@@ replace\nb`, "comes before any '@@ file'"],
  [`${HEADER}@@ file x\n@@ find\na`, 'no replace, before or after'],
  [`${HEADER}@@ file x\n@@ find\n@@ replace\nb`, 'the anchor is empty'],
  [`${HEADER}@@ file x\n@@ find\na\n@@ swap\nb`, "'@@ swap' is unknown"],
  [`${HEADER}`, 'no edits'],
])('a malformed patch is refused: %#', (text, message) => {
  expect(() => parsePatch(text, 'p.edit')).toThrow(message);
});
