import { expect, test } from 'bun:test';
import { readJunit } from '../../../../commands/test/junit.ts';

const REPORT = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="bun test" tests="7" assertions="9" failures="2" skipped="1" time="0.01">
  <testsuite name="tests/unit/a.test.ts" file="tests/unit/a.test.ts" tests="3" failures="2" skipped="0" time="0.25">
    <testcase name="first" classname="" time="0.1" file="tests/unit/a.test.ts" line="2" />
    <testsuite name="inner &lt;1&gt;" file="tests/unit/a.test.ts" line="3" tests="1" failures="1" skipped="0">
      <testcase name="says &quot;no&quot;" classname="inner" time="0" file="tests/unit/a.test.ts" line="4">
        <failure type="AssertionError" message="a &gt; b&#10;">a &gt; b</failure>
      </testcase>
    </testsuite>
    <testcase name="last" classname="" time="0.1" file="tests/unit/a.test.ts" line="9" />
  </testsuite>
  <testsuite name="b" file="tests/unit/b &amp; c.test.ts" tests="4" failures="0" skipped="1" time="1.5"></testsuite>
</testsuites>`;

test('the totals are those of the whole report', () => {
  expect(readJunit(REPORT)?.totals).toEqual({ passed: 4, failed: 2, skipped: 1 });
});

test('errors count as failures', () => {
  const report = '<testsuites tests="3" failures="1" errors="1" skipped="0"></testsuites>';
  expect(readJunit(report)?.totals).toEqual({ passed: 1, failed: 2, skipped: 0 });
});

test('each file has its seconds, under its unescaped path', () => {
  expect([...(readJunit(REPORT)?.secondsByFile ?? [])]).toEqual([
    ['tests/unit/a.test.ts', 0.25],
    ['tests/unit/b & c.test.ts', 1.5],
  ]);
});

test('tests keep the order of their declaration, with the names of their describe blocks', () => {
  expect(readJunit(REPORT)?.tests).toEqual([
    { file: 'tests/unit/a.test.ts', name: 'first' },
    { file: 'tests/unit/a.test.ts', name: 'inner <1> > says "no"' },
    { file: 'tests/unit/a.test.ts', name: 'last' },
  ]);
});

test.each(['<html></html>', 'no XML at all', '', '<testsuites tests="1">'])('%p is refused', (text) => {
  expect(readJunit(text)).toBeUndefined();
});
