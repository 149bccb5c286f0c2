import type { TestCase } from './junit.ts';
import { NO_TESTS, type Totals } from './totals.ts';

const FILE_HEADER = /^(\S+\.test\.ts):$/;
const RESULT = /^\((pass|fail|skip|todo)\) (.*?)(?: \[[\d.]+m?s\])?$/;

/**
 * Follows what `bun test` prints: a header for each file, a line for each test that ended. The runner writes its JUnit report only
 * at its end; the output tells what a runner that was killed had done by then.
 */
export class RunnerOutput {
  readonly #ended: TestCase[] = [];
  readonly #started: string[] = [];
  #totals = NO_TESTS;

  readLine(line: string): void {
    const file = FILE_HEADER.exec(line)?.[1];
    if (file !== undefined) this.#started.push(file);
    const [, outcome, name] = RESULT.exec(line) ?? [];
    if (outcome === undefined || name === undefined) return;
    this.#ended.push({ file: this.#started.at(-1) ?? '', name });
    this.#totals = { ...this.#totals, [totalOf(outcome)]: this.#totals[totalOf(outcome)] + 1 };
  }

  /** The tests that ended, counted by outcome. */
  get totals(): Totals {
    return this.#totals;
  }

  /** The tests that ended, in the order in which they ended. */
  get ended(): readonly TestCase[] {
    return this.#ended;
  }

  /** The files that the runner began, in that order. The last one is the file that it runs. */
  get startedFiles(): readonly string[] {
    return this.#started;
  }
}

function totalOf(outcome: string): keyof Totals {
  if (outcome === 'pass') return 'passed';
  return outcome === 'fail' ? 'failed' : 'skipped';
}
