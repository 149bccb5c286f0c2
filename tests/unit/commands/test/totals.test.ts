import { expect, test } from 'bun:test';
import { processGroups } from '../../../../commands/test/kinds.ts';
import { addTotals, slowestFiles, summary } from '../../../../commands/test/totals.ts';

test('the last line names skipped tests only when there are some', () => {
  expect(summary({ passed: 3, failed: 0, skipped: 0 })).toBe('3 passed, 0 failed');
  expect(summary({ passed: 3, failed: 1, skipped: 2 })).toBe('3 passed, 1 failed, 2 skipped');
});

test('totals add up by outcome', () => {
  const sum = addTotals({ passed: 1, failed: 2, skipped: 3 }, { passed: 10, failed: 20, skipped: 30 });
  expect(sum).toEqual({ passed: 11, failed: 22, skipped: 33 });
});

test('the slowest files come first, and no more than asked for', () => {
  const seconds = new Map([
    ['a.test.ts', 1.24],
    ['b.test.ts', 103.5],
    ['c.test.ts', 7],
  ]);
  expect(slowestFiles(seconds, 2)).toEqual([' 103.5 s  b.test.ts', '   7.0 s  c.test.ts']);
});

test('a process takes one file, or the files of one folder, in the order of their paths', () => {
  const files = ['tests/unit/b/two.test.ts', 'tests/unit/a.test.ts', 'tests/unit/b/one.test.ts'];
  expect(processGroups({ sharedBy: 'file' }, files)).toEqual([
    ['tests/unit/a.test.ts'],
    ['tests/unit/b/one.test.ts'],
    ['tests/unit/b/two.test.ts'],
  ]);
  expect(processGroups({ sharedBy: 'folder' }, files)).toEqual([
    ['tests/unit/a.test.ts'],
    ['tests/unit/b/one.test.ts', 'tests/unit/b/two.test.ts'],
  ]);
});
