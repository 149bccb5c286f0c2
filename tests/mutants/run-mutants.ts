/** Runs the tests against mutants: each mutant in a process of its own, by the test files that reach it, until one fails. */

import { join } from 'node:path';
import { ACTIVE_MUTANT, type Mutant } from './instrument.ts';

/** A mutant can make a loop endless: tests that take longer than this have noticed it. */
const MUTANT_TIMEOUT_MS = 30_000;

export type Outcome = 'killed' | 'timed out' | 'survived' | 'not reached';

export interface TestedMutant extends Mutant {
  readonly outcome: Outcome;
}

export interface MutantRunOptions {
  /** The instrumented copy. */
  readonly copy: string;
  /** Test files in it. */
  readonly testFiles: readonly string[];
  readonly mutants: readonly Mutant[];
  /** Mutants that are tested at the same time. */
  readonly concurrency: number;
  readonly onTested: (mutant: TestedMutant) => void;
}

/** Tests mutants one after another. @throws when the tests fail without any mutant */
export async function runMutants(options: MutantRunOptions): Promise<TestedMutant[]> {
  const { copy, testFiles, mutants, concurrency, onTested } = options;
  const reachedBy = await coverage(copy, testFiles);
  const tested: TestedMutant[] = [];
  const waiting = mutants.values();
  const work = async () => {
    for (const mutant of waiting) {
      const outcome = await testMutant(copy, mutant, reachedBy.get(mutant.id) ?? []);
      const result = { ...mutant, outcome };
      tested.push(result);
      onTested(result);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, work));
  return tested;
}

/** The test files that reach each mutant, the fastest file first. */
async function coverage(copy: string, testFiles: readonly string[]): Promise<Map<string, string[]>> {
  const timed: { readonly file: string; readonly ms: number; readonly reached: readonly string[] }[] = [];
  for (const file of testFiles) {
    const report = join(copy, `coverage-${timed.length}.json`);
    const startedMs = performance.now();
    const preload = join(copy, 'tests', 'mutants', 'coverage.preload.ts');
    const { code, output } = await bunTest(copy, ['--preload', preload, file], { MUTANT_COVERAGE: report });
    if (code !== 0) throw new Error(`${file} fails without a mutant:\n${output}`);
    timed.push({ file, ms: performance.now() - startedMs, reached: await Bun.file(report).json() });
  }
  const reachedBy = new Map<string, string[]>();
  for (const { file, reached } of timed.toSorted((a, b) => a.ms - b.ms))
    for (const id of reached) reachedBy.set(id, [...(reachedBy.get(id) ?? []), file]);
  return reachedBy;
}

async function testMutant(copy: string, { id }: Mutant, files: readonly string[]): Promise<Outcome> {
  if (files.length === 0) return 'not reached';
  const { code } = await bunTest(copy, ['--bail', ...files], { [ACTIVE_MUTANT]: id });
  if (code === undefined) return 'timed out';
  return code === 0 ? 'survived' : 'killed';
}

/** @returns the exit code, `undefined` after the time-out */
async function bunTest(copy: string, args: readonly string[], env: Readonly<Record<string, string>>) {
  const child = Bun.spawn([process.execPath, 'test', ...args], {
    cwd: copy,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: MUTANT_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  const [code, output] = await Promise.all([child.exited, child.stderr.text()]);
  return { code: child.signalCode === null ? code : undefined, output };
}
