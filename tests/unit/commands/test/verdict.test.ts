import { describe, expect, test } from 'bun:test';
import type { JunitReport } from '../../../../commands/test/junit.ts';
import { RunnerOutput } from '../../../../commands/test/runner-output.ts';
import { judgeCrash, judgeReport } from '../../../../commands/test/verdict.ts';

function reportOf(changes: Partial<JunitReport['totals']> = {}): JunitReport {
  const totals = { passed: 2, failed: 0, skipped: 0, ...changes };
  const secondsByFile = new Map([
    ['a.test.ts', 1],
    ['b.test.ts', 2],
  ]);
  return { totals, secondsByFile, tests: [] };
}

describe('a runner that wrote its report', () => {
  const files = ['a.test.ts', 'b.test.ts'];

  test('has the totals of the report', () => {
    expect(judgeReport(files, reportOf(), 0)).toEqual({
      totals: { passed: 2, failed: 0, skipped: 0 },
      problems: [],
      notStarted: [],
    });
  });

  test('fails when a file is missing in the report', () => {
    const { totals, problems } = judgeReport([...files, 'c.test.ts'], reportOf(), 1);
    expect(totals).toEqual({ passed: 2, failed: 1, skipped: 0 });
    expect(problems).toEqual(['c.test.ts reported no test: it has none, or it did not load']);
  });

  test('fails when only its exit code says so', () => {
    const { totals, problems } = judgeReport(files, reportOf(), 1);
    expect(totals.failed).toBe(1);
    expect(problems).toEqual(['a.test.ts, b.test.ts: no test failed, but the test runner ended with exit code 1']);
  });

  test('counts a failed test once', () => {
    expect(judgeReport(files, reportOf({ failed: 2 }), 1).totals.failed).toBe(2);
  });
});

function outputOf(...lines: string[]): RunnerOutput {
  const output = new RunnerOutput();
  for (const line of lines) output.readLine(line);
  return output;
}

const declared = ['one', 'group > two', 'three', 'four'].map((name) => ({ file: 'a.test.ts', name }));

describe('a runner that ended without a report', () => {
  test('keeps the outcome of the tests that ended, and names the one that ran', () => {
    const output = outputOf(
      '',
      'a.test.ts:',
      '(pass) one [0.05ms]',
      'printed by a test',
      '(fail) group > two [12.00ms]',
    );
    const { totals, problems } = judgeCrash(['a.test.ts'], output, 'limit of 60 s', declared);
    expect(totals).toEqual({ passed: 1, failed: 2, skipped: 0 });
    expect(problems).toEqual([
      'a.test.ts: the test runner ended (limit of 60 s) in the test "three"; 1 tests after it did not run',
    ]);
  });

  test('names the last test that ended when the tests of the file cannot be listed', () => {
    const output = outputOf('a.test.ts:', '(pass) one', '(skip) group > two');
    const { totals, problems } = judgeCrash(['a.test.ts'], output, 'signal SIGKILL', []);
    expect(totals).toEqual({ passed: 1, failed: 1, skipped: 1 });
    expect(problems).toEqual(['a.test.ts: the test runner ended (signal SIGKILL) after its test "group > two"']);
  });

  test('names the first test when no test ended', () => {
    const { problems } = judgeCrash(['a.test.ts'], outputOf('a.test.ts:'), 'exit code 7', declared.slice(0, 1));
    expect(problems).toEqual(['a.test.ts: the test runner ended (exit code 7) in the test "one"']);
  });

  test('tells two tests of one name apart by their count', () => {
    const twins = ['same', 'same', 'other'].map((name) => ({ file: 'a.test.ts', name }));
    const { problems } = judgeCrash(['a.test.ts'], outputOf('a.test.ts:', '(pass) same'), 'exit code 7', twins);
    expect(problems[0]).toContain('in the test "same"; 1 tests after it did not run');
  });

  test('lists the files that it did not begin, so that they can run in another process', () => {
    const output = outputOf('a.test.ts:', '(pass) one', 'b.test.ts:', '(pass) first of b');
    const files = ['a.test.ts', 'b.test.ts', 'c.test.ts'];
    const { notStarted, problems } = judgeCrash(files, output, 'exit code 7', declared);
    expect(notStarted).toEqual(['c.test.ts']);
    expect(problems).toEqual(['b.test.ts: the test runner ended (exit code 7) after its test "first of b"']);
  });

  test('fails every file when it did not begin any', () => {
    const { totals, problems, notStarted } = judgeCrash(['a.test.ts', 'b.test.ts'], outputOf(), 'exit code 1', []);
    expect(totals).toEqual({ passed: 0, failed: 2, skipped: 0 });
    expect(problems).toHaveLength(2);
    expect(notStarted).toEqual([]);
  });
});
