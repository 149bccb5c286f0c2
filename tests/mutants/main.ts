/**
 * `./run mutants [FILE…] [--sample N|all] [--seed S]`: changes `domain/` in many small ways, one at a time, and reports which changes
 * no test of tests/unit/domain notices.
 */

import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { instrumentCopy, type Mutant } from './instrument.ts';
import { runMutants, type TestedMutant } from './run-mutants.ts';

/** Mutants that are drawn when no `--sample` is given: a few minutes on two cores. */
const DEFAULT_SAMPLE = 200;
const PROGRESS_EVERY = 25;
const MAX_SEED = 2 ** 31 - 1;
const USAGE = 'usage: ./run mutants [FILE…] [--sample N|all] [--seed S]';

const root = resolve(import.meta.dir, '..', '..');

interface MutantsRequest {
  /** Parts of paths below `domain/`; none means all files. */
  readonly filters: readonly string[];
  readonly sample: number;
  readonly seed: number;
}

function parseRequest(args: readonly string[], nowMs: number): MutantsRequest | string {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      options: { sample: { type: 'string' }, seed: { type: 'string' } },
      allowPositionals: true,
    });
    const sample = values.sample === 'all' ? Number.POSITIVE_INFINITY : Number(values.sample ?? DEFAULT_SAMPLE);
    const seed = Number(values.seed ?? nowMs % MAX_SEED);
    if (!(sample >= 1)) return '--sample must be a number of mutants, or all';
    return Number.isInteger(seed) ? { filters: positionals, sample, seed } : '--seed must be a whole number';
  } catch (error) {
    return String(error);
  }
}

/** Draws mutants, the same ones for the same seed. */
function draw(mutants: readonly Mutant[], { sample, seed }: MutantsRequest): Mutant[] {
  const rest = [...mutants];
  const random = xoroshiro128plus(seed);
  const drawn: Mutant[] = [];
  while (drawn.length < sample && rest.length > 0)
    drawn.push(...rest.splice(uniformInt(random, 0, rest.length - 1), 1));
  return drawn;
}

function report(tested: readonly TestedMutant[], all: number, seed: number): void {
  const missed = tested.filter(({ outcome }) => outcome === 'survived' || outcome === 'not reached');
  for (const { file, line, mutator, replacement, outcome } of missed.toSorted(
    (a, b) => a.file.localeCompare(b.file) || a.line - b.line,
  ))
    console.log(`${outcome}  ${file}:${line}  ${mutator} → ${replacement.replaceAll(/\s+/g, ' ').slice(0, 100)}`);
  const noticed = tested.length - missed.length;
  const score = ((noticed / tested.length) * 100).toFixed(1);
  console.log(`\n${noticed} of ${tested.length} mutants noticed (${score} %), drawn from ${all} with seed ${seed}.`);
}

async function run(): Promise<number> {
  const request = parseRequest(process.argv.slice(2), Date.now());
  if (typeof request === 'string') {
    console.error(`${request}\n${USAGE}`);
    return 2;
  }
  const copy = await mkdtemp(join(tmpdir(), 'lockfleet-mutants-'));
  try {
    const isWanted = (file: string) => request.filters.every((filter) => file.includes(filter));
    const mutants = await instrumentCopy(root, copy, (file) => /^domain\/.*\.ts$/.test(file) && isWanted(file));
    const drawn = draw(mutants, request);
    if (drawn.length === 0)
      throw new Error(`No file below domain/ contains ${request.filters.join(' and ')} in its path.`);
    const testFiles = await Array.fromAsync(new Bun.Glob('tests/unit/domain/**/*.test.ts').scan({ cwd: copy }));
    let count = 0;
    const tested = await runMutants({
      copy,
      testFiles: testFiles.toSorted(),
      mutants: drawn,
      concurrency: availableParallelism(),
      onTested: () => {
        count += 1;
        if (count % PROGRESS_EVERY === 0) console.error(`${count} of ${drawn.length} mutants tested`);
      },
    });
    report(tested, mutants.length, request.seed);
    return 0;
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}

process.exit(await run());
