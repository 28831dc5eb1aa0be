// Chat templates come with the model's file: strangers' programs. Each case runs in a process of its own, which a crash would end.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { loadModel } from '../../dist/index.js';
import { inChild } from './child.js';
import { writeModelWithTemplate } from './template-model.js';

const folder = mkdtempSync(join(tmpdir(), 'ternion-templates-'));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'model.gguf');

interface Outcome {
  readonly text?: string;
  readonly code?: string;
  readonly message?: string;
  readonly ms: number;
  /** Longest time that the event loop stood still. */
  readonly lagMs: number;
  readonly after: string;
}

/** What render() says, and what the model still does afterwards. Address space is bounded: a memory bomb ends the process. */
const outcome = async (template: string, limits = '-v 8000000'): Promise<Outcome> => {
  writeModelWithTemplate(path, template);
  return inChild<Outcome>('test/hostile/render.mjs', [path], { limits });
};

const grow = (n: number, step: string) => `{% set ns = namespace(x="ab") %}{% for i in range(${n}) %}{% set ns.x = ${step} %}{% endfor %}`;

const bombs: Record<string, string> = {
  'a range of 1e9': '{% for i in range(1000000000) %}x{% endfor %}',
  'an empty loop': '{% for i in range(100000000) %}{% endfor %}',
  'nested loops': '{% for i in range(3000) %}{% for j in range(3000) %}{% for k in range(3000) %}x{% endfor %}{% endfor %}{% endfor %}',
  'a string that doubles': `${grow(60, 'ns.x ~ ns.x')}{{ ns.x }}`,
  'a list that doubles': '{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}',
  'a string repeated': '{{ "abcdefgh" * 100000000000 }}',
  'an empty string repeated': '{{ "" * 100000000000 }}',
  'a macro that calls itself': '{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}',
  'a macro that calls itself twice': '{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(1) }}',
  'a caller that calls itself': '{% macro f() %}{% call f() %}{% endcall %}{% endmacro %}{{ f() }}',
  'a namespace in itself, as JSON': '{% set ns = namespace() %}{% set ns.me = [ns, ns] %}{{ ns | tojson }}',
  'a list in itself, as text': '{% set a = [] %}{% set b = a.append(a) %}{{ a | string }}',
  'a list in itself, printed': '{% set a = [] %}{% set b = a.append(a) %}{% set b = a.append(a) %}{{ a }}',
  'lists a million deep': '{% set ns = namespace(x=[]) %}{% for i in range(1000000) %}{% set ns.x = [ns.x] %}{% endfor %}',
  'tuples deep, as keys': '{% set ns = namespace(x=(1, 2)) %}{% for i in range(90000) %}{% set ns.x = (ns.x, 1) %}{% endfor %}{{ {ns.x: 1} }}',
  'tuples wide and deep, compared': '{% set ns = namespace(x=(1, 2)) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ ns.x == ns.x }}',
  'an indent of 1e10': '{{ "a\nb" | indent(10000000000) }}',
  'JSON with an indent of 1e9': '{{ [[[1]]] | tojson(indent=1000000000) }}',
  'a split of 4 MB': `${grow(21, 'ns.x ~ ns.x')}{{ ns.x.split("b") | length }}`,
  'a search that nearly matches': `${grow(20, 'ns.x ~ ns.x').replace('"ab"', '"a"')}{% set n = ns.x ~ "b" %}{% for i in range(100000) %}{{ n in ns.x ~ ns.x }}{% endfor %}`,
  'a replacement that grows': `${grow(20, 'ns.x ~ ns.x')}{{ ns.x.replace("a", ns.x) | length }}`,
  'a replacement of nothing': `${grow(20, 'ns.x ~ ns.x')}{{ ns.x.replace("", ns.x) | length }}`,
  'a join that grows': `${grow(20, 'ns.x ~ ns.x')}{{ range(100000) | join(ns.x) | length }}`,
  'a copy in each turn': `${grow(22, 'ns.x ~ ns.x')}{% for i in range(100000) %}{{ ns.x[i] }}{% endfor %}`,
  'a list copied in each turn': '{% set x = range(90000) %}{% for i in x %}{% set y = x | list %}{% endfor %}',
  'a list popped from its front': '{% set x = range(400000) %}{% for i in range(300000) %}{% set y = x.pop(0) %}{% endfor %}',
};

const tooDeep: Record<string, string> = {
  parentheses: `{{ ${'('.repeat(50_000)}1${')'.repeat(50_000)} }}`,
  lists: `{{ ${'['.repeat(50_000)}${']'.repeat(50_000)} }}`,
  objects: `{{ ${'{1:'.repeat(50_000)}1${'}'.repeat(50_000)} }}`,
  statements: `${'{% if true %}'.repeat(9000)}${'{% endif %}'.repeat(9000)}`,
  alternatives: `{% if false %}${'{% elif false %}'.repeat(10_000)}{% endif %}`,
  'alternatives with statements inside': `{% if false %}${'{% elif false %}{% if true %}{% endif %}'.repeat(4000)}{% endif %}`,
  'set blocks': `${'{% set a %}'.repeat(9000)}${'{% endset %}'.repeat(9000)}`,
  negations: `{{ ${'not '.repeat(50_000)}true }}`,
  concatenations: `{{ "a"${'~"a"'.repeat(50_000)} }}`,
  members: `{{ a${'.b'.repeat(100_000)} }}`,
  filters: `{{ "a"${'|trim'.repeat(40_000)} }}`,
  calls: `{{ a${'()'.repeat(100_000)} }}`,
  'more than 256 KiB': 'x'.repeat(300_000),
};

const expected = { code: 'ERR_TEMPLATE', message: expect.stringMatching(/template.*(complete\(\)|another template)/s) as string, after: 'ok' };

describe('templates', () => {
  test.each(Object.keys(bombs))('%s ends with an error, soon', async (name) => {
    const found = await outcome(bombs[name]!);
    expect(found).toMatchObject(expected);
    expect(found.message).toMatch(/steps, memory and recursion/);
    expect(found.ms).toBeLessThan(5000);
    expect(found.lagMs).toBeLessThan(500);
  });

  test.each(Object.keys(tooDeep))('too much to parse: %s', async (name) => {
    const found = await outcome(tooDeep[name]!);
    expect(found).toMatchObject(expected);
    expect(found.message).toMatch(/at most \d+ are taken/);
  });

  // Threads' stacks are as large as that limit unless they say otherwise.
  test.each(['a macro that calls itself', 'a macro that calls itself twice', 'a list in itself, printed'])('%s, where stacks are small', async (name) => {
    expect(await outcome(bombs[name]!, '-s 400')).toMatchObject(expected);
  });

  test.each([
    ['division by zero', '{{ 1 is divisibleby(0) }}', /division by zero/],
    ['a file', '{% include "/etc/passwd" %}', /Unknown statement: include/],
    ['an import', '{% import "/etc/passwd" as x %}', /Unknown statement: import/],
    ['a function that is not there', '{{ open("/etc/passwd") }}', /Callee is not a function/],
    ['attributes of Python', '{{ "".__class__.__mro__[1].__subclasses__() }}', /Callee is not a function/],
    ['a break outside of a loop', '{% break %}', /Break/],
    ['an unclosed list', '{{ [1, 2', /cannot be parsed/],
    ['an unclosed statement', '{% if true %}', /cannot be parsed/],
    ['a refusal', '{{ raise_exception("no") }}', /no/],
  ])('%s is an error', async (_, template, message) => {
    const found = await outcome(template);
    expect(found).toMatchObject({ code: 'ERR_TEMPLATE', message: expect.stringMatching(message) as string, after: 'ok' });
  });

  test.each([
    ['the smallest number divided by -1', '{{ (0 - 9223372036854775807 - 1) is divisibleby(-1) }}', 'True'],
    ['a step beyond all bounds', '{{ "abc"[0:3:4611686018427387904] }}{{ [1,2,3][::-9223372036854775807] | length }}', 'a1'],
    ['a sort without an order', '{{ [3, "a", 1.5, "1", 2, "b", 0.5] | sort | length }}', '7'],
    ['text split and replaced', '{{ "a,b,c,d".split(",", 2) | join("|") }} {{ "a,b,,c".split(",") | length }} {{ "aXbXXc".replace("X", "--") }}', 'a|b|c,d 4 a--b----c'],
    ['as deep as may be', `{{ ${'('.repeat(90)}1${')'.repeat(90)} }}${'{% if true %}'.repeat(90)}x${'{% endif %}'.repeat(90)}`, '1x'],
  ])('%s is none', async (_, template, text) => {
    expect(await outcome(template)).toMatchObject({ text, after: 'ok' });
  });

  test('long conversations have what they need', async () => {
    const model = await loadModel('models/tern-5m-tq2_0.gguf', { devices: ['cpu'], context: 256 });
    const many = Array.from({ length: 10_000 }, (_, i) => ({ role: i % 2 === 0 ? ('user' as const) : ('assistant' as const), content: `${i}` }));
    expect(await model.render([...many, { role: 'user', content: 'last' }])).toContain('9999');
    const content = 'lorem ipsum\n'.repeat(400_000);
    expect((await model.render([{ role: 'user', content }])).length).toBeGreaterThan(content.trim().length);
    await model.dispose();
  });

  test('what a message says is no template', async () => {
    const model = await loadModel('models/tern-5m-tq2_0.gguf', { devices: ['cpu'], context: 256 });
    const content = '{{ 7 * 7 }} {% for i in range(1000000000) %}x{% endfor %} {# gone #} \ud800';
    expect(await model.render([{ role: 'user', content }])).toContain(content.replace('\ud800', '\ufffd'));
    await model.dispose();
  });
});

