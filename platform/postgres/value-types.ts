/** How values are converted between JavaScript and Postgres. */

export const BOOLEAN_ARRAY_OID = 1000;
export const JSON_OID = 114;

export function isBooleanArray(value: unknown): boolean {
  return Array.isArray(value) && value.some((element) => typeof element === 'boolean');
}

const BIGINT = {
  to: 20,
  from: [20],
  serialize: (value: number) => String(value),
  parse: (text: string): number => {
    const value = Number(text);
    if (!Number.isSafeInteger(value))
      throw new RangeError(`the bigint ${text} is beyond the safe integers of JavaScript`);
    return value;
  },
};

const TEXT = {
  to: 25,
  from: [],
  serialize: (value: string) => withoutNul(String(value)),
  parse: (text: string) => text,
};

/** The array types that queries accept as parameters, with their OIDs in Postgres. */
const ARRAYS = Object.fromEntries(
  Object.entries({
    'boolean[]': BOOLEAN_ARRAY_OID,
    'smallint[]': 1005,
    'int[]': 1007,
    'text[]': 1009,
    'varchar[]': 1015,
    'bigint[]': 1016,
    'double precision[]': 1022,
    'timestamptz[]': 1185,
    'uuid[]': 2951,
  }).map(([name, oid]) => [name, { to: oid, from: [], serialize: arrayLiteral, parse: (text: string) => text }]),
) as Record<never, never>;

/** The types in the form that the package `postgres` expects. */
export const VALUE_TYPES = { bigint: BIGINT, text: TEXT, ...ARRAYS };

function arrayLiteral(values: readonly (string | number | boolean | null)[]): string {
  return `{${values.map(elementLiteral).join(',')}}`;
}

/** Every character below the space, written as what it is not. JSON escapes these characters in a way that Postgres does not read. */
const CONTROL_CHARACTER = /[^ -\uffff]/;

function elementLiteral(value: string | number | boolean | null): string {
  if (value === null) return 'NULL';
  if (typeof value !== 'string') return String(value);
  // JSON and Postgres escape quotes and backslashes alike, and JSON.stringify is much faster than the replacement below.
  if (!CONTROL_CHARACTER.test(value) && value.isWellFormed()) return JSON.stringify(value);
  return `"${withoutNul(value).replace(/["\\]/g, '\\$&')}"`;
}

/** Replaces NUL, the only character that a text of Postgres cannot hold. */
function withoutNul(text: string): string {
  return text.replaceAll('\0', '\uFFFD');
}
