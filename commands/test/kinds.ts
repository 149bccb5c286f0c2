import { dirname } from 'node:path';

export interface Kind {
  readonly name: string;
  /** Limit of one test; a test may set its own. */
  readonly testTimeoutMs: number;
  /** Limit of one runner process: the runner ends a process that exceeds it, with everything that it started. */
  readonly processTimeoutMs: number;
  /** Which files share a process. */
  readonly sharedBy: 'file' | 'folder';
  /** How many processes run at once. */
  readonly concurrency: number;
}

const SECOND_MS = 1_000;

export const KINDS: readonly Kind[] = [
  { name: 'unit', testTimeoutMs: 10 * SECOND_MS, processTimeoutMs: 60 * SECOND_MS, sharedBy: 'folder', concurrency: 2 },
  {
    name: 'contract',
    testTimeoutMs: 30 * SECOND_MS,
    processTimeoutMs: 90 * SECOND_MS,
    sharedBy: 'file',
    concurrency: 1,
  },
  {
    name: 'integration',
    testTimeoutMs: 120 * SECOND_MS,
    processTimeoutMs: 240 * SECOND_MS,
    sharedBy: 'file',
    concurrency: 2,
  },
  { name: 'e2e', testTimeoutMs: 120 * SECOND_MS, processTimeoutMs: 480 * SECOND_MS, sharedBy: 'file', concurrency: 2 },
  {
    name: 'chaos',
    testTimeoutMs: 180 * SECOND_MS,
    processTimeoutMs: 600 * SECOND_MS,
    sharedBy: 'file',
    concurrency: 2,
  },
];

/** Splits the test files of a kind into the groups that share a process, in the order of their paths. */
export function processGroups({ sharedBy }: Pick<Kind, 'sharedBy'>, files: readonly string[]): string[][] {
  const key = (file: string) => (sharedBy === 'file' ? file : dirname(file));
  return [...Map.groupBy(files.toSorted(), key).values()];
}
