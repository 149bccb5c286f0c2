import { describe, expect, test } from 'bun:test';
import { judgeRun, readJunit, summary } from '../../../commands/test/report.ts';

const REPORT = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="bun test" tests="7" assertions="9" failures="2" skipped="1" time="0.01">
  <testsuite name="tests/unit/a.test.ts" file="tests/unit/a.test.ts" tests="4" failures="2" skipped="1">
    <testsuite name="inner" file="tests/unit/a.test.ts" tests="1" failures="0" skipped="0"></testsuite>
  </testsuite>
  <testsuite name="b" file="tests/unit/b &amp; c.test.ts" tests="3" failures="0" skipped="0"></testsuite>
</testsuites>`;

test('totals come from the head of the report', () => {
  const { files, ...totals } = readJunit(REPORT);
  expect(totals).toEqual({ passed: 4, failed: 2, skipped: 1 });
  expect([...files]).toEqual(['tests/unit/a.test.ts', 'tests/unit/b & c.test.ts']);
});

test('a text that is no report is refused', () => {
  expect(() => readJunit('<html>')).toThrow('no JUnit report');
});

test('the last line names skipped tests only when there are some', () => {
  expect(summary({ passed: 3, failed: 0, skipped: 0 })).toBe('3 passed, 0 failed');
  expect(summary({ passed: 3, failed: 1, skipped: 2 })).toBe('3 passed, 1 failed, 2 skipped');
});

describe('a run', () => {
  const green = { passed: 2, failed: 0, skipped: 0, files: new Set(['a.test.ts', 'b.test.ts']) };
  const files = ['a.test.ts', 'b.test.ts'];

  test('is what its report says', () => {
    expect(judgeRun(files, green, 0)).toMatchObject({ totals: { passed: 2, failed: 0 }, complaints: [] });
  });

  test('without a report has failed, also with exit code 0', () => {
    expect(judgeRun(files, undefined, 0).totals).toEqual({ passed: 0, failed: 1, skipped: 0 });
  });

  test('has failed when a file reported nothing', () => {
    const { totals, complaints } = judgeRun([...files, 'c.test.ts'], green, 1);
    expect(totals.failed).toBe(1);
    expect(complaints).toEqual(['c.test.ts reported no test']);
  });

  test('has failed when only the exit code says so', () => {
    expect(judgeRun(files, green, 1).totals.failed).toBe(1);
  });

  test('counts its failed tests once', () => {
    expect(judgeRun(files, { ...green, failed: 2 }, 1).totals.failed).toBe(2);
  });
});
