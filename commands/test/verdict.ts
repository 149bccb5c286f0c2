import type { JunitReport, TestCase } from './junit.ts';
import type { RunnerOutput } from './runner-output.ts';
import { NO_TESTS, type Totals } from './totals.ts';

export interface Verdict {
  readonly totals: Totals;
  /** One sentence for each failure that is not the failure of a test. Each counts as one failed test in the totals. */
  readonly problems: readonly string[];
  /** Files of the group that the runner did not begin. */
  readonly notStarted: readonly string[];
}

/**
 * Judges a runner that wrote its report. A file that is missing in the report did not load, and counts as a failure. So does an
 * exit code other than 0 without a failed test.
 */
export function judgeReport(files: readonly string[], report: JunitReport, exitCode: number | null): Verdict {
  const problems = files
    .filter((file) => !report.secondsByFile.has(file))
    .map((file) => `${file} reported no test: it has none, or it did not load`);
  if (exitCode !== 0 && report.totals.failed === 0 && problems.length === 0) {
    problems.push(`${files.join(', ')}: no test failed, but the test runner ended with exit code ${exitCode}`);
  }
  return { totals: withFailures(report.totals, problems.length), problems, notStarted: [] };
}

/**
 * Judges a runner that ended without a report, because it crashed or exceeded its time limit. The tests that ended keep their
 * outcome. The test that ran last is named and counts as failed.
 * @param cause what ended the runner, such as `exit code 132`.
 * @param declared all tests of the file that ran last, in order; empty when they could not be listed.
 */
export function judgeCrash(
  files: readonly string[],
  output: Pick<RunnerOutput, 'totals' | 'ended' | 'startedFiles'>,
  cause: string,
  declared: readonly TestCase[],
): Verdict {
  const file = output.startedFiles.at(-1);
  if (file === undefined) {
    return {
      totals: { ...NO_TESTS, failed: files.length },
      problems: files.map((name) => `${name}: the test runner ended before its first test (${cause})`),
      notStarted: [],
    };
  }
  const problem = `${file}: the test runner ended (${cause}) ${placeOfCrash(file, output.ended, declared)}`;
  return {
    totals: withFailures(output.totals, 1),
    problems: [problem],
    notStarted: files.filter((name) => !output.startedFiles.includes(name)),
  };
}

function placeOfCrash(file: string, ended: readonly TestCase[], declared: readonly TestCase[]): string {
  const names = ended.filter((test) => test.file === file).map(({ name }) => name);
  const unfinished = [...declared.filter((test) => test.file === file).map(({ name }) => name)];
  for (const name of names) {
    const place = unfinished.indexOf(name);
    if (place >= 0) unfinished.splice(place, 1);
  }
  const [running, ...notRun] = unfinished;
  if (running !== undefined) {
    return `in the test "${running}"${notRun.length > 0 ? `; ${notRun.length} tests after it did not run` : ''}`;
  }
  const last = names.at(-1);
  return last === undefined ? 'before a test of it ended' : `after its test "${last}"`;
}

function withFailures(totals: Totals, failures: number): Totals {
  return { ...totals, failed: totals.failed + failures };
}
