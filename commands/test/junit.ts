import type { Totals } from './totals.ts';

export interface TestCase {
  /** The path of the test file, as the runner got it. */
  readonly file: string;
  /** The names of the enclosing `describe` blocks and of the test, joined as the runner prints them. */
  readonly name: string;
}

export interface JunitReport {
  readonly totals: Totals;
  /** Seconds that each test file took, by path. */
  readonly secondsByFile: ReadonlyMap<string, number>;
  /** All tests in the order in which the files declare them. */
  readonly tests: readonly TestCase[];
}

const NAME_SEPARATOR = ' > ';

/**
 * Reads the JUnit report of `bun test`.
 * @returns undefined when the text is not a JUnit report, such as that of a runner that was killed while it wrote.
 */
export function readJunit(xml: string): JunitReport | undefined {
  const root = parseXml(xml);
  if (root?.name !== 'testsuites') return undefined;
  const failed = count(root, 'failures') + count(root, 'errors');
  const skipped = count(root, 'skipped');
  const suites = elements(root);
  return {
    totals: { passed: count(root, 'tests') - failed - skipped, failed, skipped },
    secondsByFile: new Map(suites.map((suite) => [suite.attributes.file ?? '', Number(suite.attributes.time ?? 0)])),
    tests: suites.flatMap((suite) => testCases(suite, suite.attributes.file ?? '', [])),
  };
}

function parseXml(xml: string): Bun.XML.Node | undefined {
  try {
    return Bun.XML.parse(xml, { compact: false });
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function count({ attributes }: Bun.XML.Node, name: string): number {
  return Number(attributes[name] ?? 0);
}

function elements(node: Bun.XML.Node): Bun.XML.Node[] {
  return node.children.filter((child): child is Bun.XML.Node => typeof child === 'object' && 'name' in child);
}

/** @param path the names of the enclosing `describe` blocks. */
function testCases(suite: Bun.XML.Node, file: string, path: readonly string[]): TestCase[] {
  return elements(suite).flatMap((child) => {
    const names = [...path, child.attributes.name ?? ''];
    if (child.name === 'testsuite') return testCases(child, file, names);
    return child.name === 'testcase' ? [{ file, name: names.join(NAME_SEPARATOR) }] : [];
  });
}
