/** How many tests ended with which outcome. */
export interface Totals {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export const NO_TESTS: Totals = { passed: 0, failed: 0, skipped: 0 };

export function addTotals(a: Totals, b: Totals): Totals {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}

/** The last line of a test run. */
export function summary({ passed, failed, skipped }: Totals): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}

/** The slowest test files, one a line, the slowest first. */
export function slowestFiles(secondsByFile: ReadonlyMap<string, number>, limit: number): string[] {
  const slowest = [...secondsByFile].toSorted(([, a], [, b]) => b - a).slice(0, limit);
  return slowest.map(([file, seconds]) => `${seconds.toFixed(1).padStart(6)} s  ${file}`);
}
