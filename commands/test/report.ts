/** How many tests had which outcome. */
export interface Totals {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export interface JunitReport extends Totals {
  /** The files that it speaks of, as they were named to the runner. */
  readonly files: ReadonlySet<string>;
}

export const NO_TESTS: Totals = { passed: 0, failed: 0, skipped: 0 };

/**
 * Reads the totals that the test runner wrote.
 * @throws when the text is no JUnit report.
 */
export function readJunit(xml: string): JunitReport {
  const head = /<testsuites\b[^>]*>/.exec(xml)?.[0];
  if (head === undefined) throw new Error('the test runner wrote no JUnit report');
  const count = (name: string) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(head)?.[1] ?? 0);
  const failed = count('failures') + count('errors');
  const skipped = count('skipped');
  const files = new Set(
    [...xml.matchAll(/<testsuite\b[^>]*\bfile="([^"]*)"/g)].map((match) => unescapeXml(match[1] ?? '')),
  );
  return { passed: count('tests') - failed - skipped, failed, skipped, files };
}

function unescapeXml(text: string): string {
  const entities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
  return text.replace(/&(amp|lt|gt|quot|apos);/g, (whole, name: string) => entities[name] ?? whole);
}

export function addTotals(a: Totals, b: Totals): Totals {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}

/** The line that a test run ends with. */
export function summary({ passed, failed, skipped }: Totals): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}

/**
 * What one run of the runner comes to. A file that the report does not speak of did not load or ended the process: it
 * is a failure, and so is an exit code that says so without a failed test.
 * @param report undefined when there was none.
 */
export function judgeRun(
  files: readonly string[],
  report: JunitReport | undefined,
  exitCode: number | null,
): { readonly totals: Totals; readonly complaints: readonly string[] } {
  if (report === undefined) {
    const complaint = `the test runner crashed (exit code ${exitCode}): ${files.join(', ')}`;
    return { totals: { ...NO_TESTS, failed: 1 }, complaints: [complaint] };
  }
  const complaints = files.filter((file) => !report.files.has(file)).map((file) => `${file} reported no test`);
  if (exitCode !== 0 && report.failed === 0 && complaints.length === 0) {
    complaints.push(`the test runner ended with exit code ${exitCode}, though no test failed: ${files.join(', ')}`);
  }
  return { totals: { ...report, failed: report.failed + complaints.length }, complaints };
}
