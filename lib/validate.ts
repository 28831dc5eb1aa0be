/**
 * From a schema's complaint to an error that a person can act on.
 */
import { TernionError } from './errors.js';

interface Issue {
  readonly code?: string | undefined;
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

/** What is needed of a schema; structural, so that no type of the validating library appears in a declaration file. */
export interface Schema<T> {
  safeParse(value: unknown): { success: true; data: T } | { success: false; error: { issues: readonly Issue[] } };
}

/**
 * `value` if the schema accepts it, a copy of its plain objects and arrays.
 *
 * @param call - the call that was made, e.g. `session.chat`
 * @param argument - the argument's name in its documentation, e.g. `options`
 * @throws ERR_INVALID_ARG with `details.argument`, for the first complaint.
 */
export function check<T>(call: string, argument: string, schema: Schema<T>, value: unknown): T {
  try {
    return parse(call, argument, schema, value);
  } catch (cause) {
    if (cause instanceof TernionError) throw cause;
    // A getter of theirs threw, a proxy's trap, or an object was not what its prototype says.
    throw new TernionError('ERR_INVALID_ARG', `${call}: ${argument} cannot be read: ${cause instanceof Error ? cause.message : typeof cause}`, { details: { argument }, cause });
  }
}

function parse<T>(call: string, argument: string, schema: Schema<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const path = issue?.path ?? [];
  const name = path.reduce<string>((text, key) => text + (typeof key === 'number' ? `[${key}]` : `.${String(key)}`), argument);
  const found = path.reduce<unknown>((inside, key) => (inside as Record<PropertyKey, unknown> | undefined)?.[key], value);
  const complaint =
    issue?.code === 'unrecognized_keys' ? `${name} ${issue.message}` : `${name} must be ${issue?.message ?? 'different'}; found ${show(found)}`;
  throw new TernionError('ERR_INVALID_ARG', `${call}: ${complaint}`, { details: { argument: name } });
}

/** A refusal that no schema can express. */
export function refuse(call: string, argument: string, complaint: string): never {
  throw new TernionError('ERR_INVALID_ARG', `${call}: ${complaint}`, { details: { argument } });
}

const longestName = 60;

/** The message for keys that an option bag does not have: `has no "temprature"; did you mean "temperature"?` */
export function unknownKeys(unknown: readonly string[], known: readonly string[]): string {
  const key = unknown[0] ?? '';
  const near = key.length > longestName ? undefined : nearest(key, known);
  return `has no ${JSON.stringify(key.length > longestName ? `${key.slice(0, longestName)}…` : key)}; ${near === undefined ? `it takes ${known.join(', ')}` : `did you mean ${JSON.stringify(near)}?`}`;
}

/** The candidate most like `word`, if any is like it at all: at most a third of its letters wrong, in any case. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const d = distance(word.toLowerCase(), candidate.toLowerCase());
    if (d < bestDistance && d < candidate.length) {
      best = candidate;
      bestDistance = d;
    }
  }
  return best;
}

/** Edits between two words: letters inserted, removed, replaced, or two neighbours swapped. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      row[j] = Math.min(
        (last[j] ?? 0) + 1,
        (row[j - 1] ?? 0) + 1,
        (last[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1),
        swap ? (before[j - 2] ?? 0) + 1 : Infinity,
      );
    }
    before = last;
    last = row;
  }
  return last[b.length] ?? 0;
}

/** A value as an error message shows it: short, and with its type where that is not plain to see. */
export function show(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return `the string ${JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value)}`;
    case 'function':
      return 'a function';
    case 'bigint':
      return `the bigint ${value}n`;
    case 'object':
      if (value === null) return 'null';
      return Array.isArray(value) ? `an array of ${value.length}` : `an object of class ${value.constructor?.name ?? 'null'}`;
    default:
      return String(value);
  }
}
