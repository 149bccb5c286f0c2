/** The values of query parameters, which travel as text. */

/** Parameters that are integers. */
const INTEGERS: readonly string[] = ['limit', 'radiusM'];
const BOOLEANS: ReadonlyMap<unknown, boolean> = new Map([
  ['true', true],
  ['false', false],
]);

/** Replaces the texts of integers and booleans by their values. A text that is neither stays, and the schema refuses it. */
export function parseQueryValues(query: Record<string, unknown>): void {
  for (const name of INTEGERS) {
    const value = query[name];
    if (typeof value === 'string' && /^-?\d{1,15}$/.test(value)) query[name] = Number(value);
  }
  query.count = BOOLEANS.get(query.count) ?? query.count;
  if (query.count === undefined) delete query.count;
}
