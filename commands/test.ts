/**
 * `./run test [FILTER…]`: runs the tests with `bun test` and merges the results.
 *
 * Each file of the kinds contract, integration, e2e and chaos runs in a process of its own; unit tests share a process by folder.
 * A process of its own costs a file of tests about 0.3 s, and another 1.5 s when it starts NATS and Postgres. For that price a file
 * stops everything that it started before the next one begins, a crash or a hang loses the rest of one file only, and the runner
 * can name the test. Sharing one NATS and one Postgres among the files of a kind would save less than a minute of the whole
 * run, and let one file's streams, load and crashes reach the others. Unit tests are so short that starting Bun for each file would take most of their time.
 *
 * Two processes run concurrently. Tests of whole platforms wait most of the time, so two of them need hardly more than two cores
 * have; their limits allow for a machine that is busy with other work as well.
 */

import { randomUUID } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { styleText } from 'node:util';
import { ensureNatsServer } from '../platform/embedded/nats-server-binary.ts';
import { errorMessage } from '../platform/observability/error-message.ts';
import { KINDS, type Kind, processGroups } from './test/kinds.ts';
import { endLeftoverProcesses } from './test/leftover-processes.ts';
import { type GroupResult, runGroup } from './test/run-group.ts';
import { addTotals, NO_TESTS, slowestFiles, summary } from './test/totals.ts';

const EXIT_INTERRUPTED = 130;
const MARK_VARIABLE = 'LOCKFLEET_TEST_RUN';
const SLOWEST_FILES = 10;
/** Settings that the tests do not inherit: they belong to the user's own platform. */
const SETTINGS = /^(HTTP|NATS|DATABASE|AUTH|PING|PINGER|CONFIG|FETCH|HOLD|SIM|METRICS|LOG)_|^(DATA_DIR|SHARDS|ROLES)$/;

const root = resolve(import.meta.dir, '..');
const filters = process.argv.slice(2);
/** The beginning of the mark that all processes of this run carry in their environment. */
const runMark = `${MARK_VARIABLE}=${randomUUID()}/`;
const workDir = await mkdtemp(join(tmpdir(), 'lockfleet-test-'));
// When root runs the tests, the account that runs Postgres for root must be able to enter the folder.
await chmod(workDir, 0o755);
const interrupted = new AbortController();
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !SETTINGS.test(name)));
let groupsStarted = 0;

async function findFiles(kind: Kind): Promise<string[]> {
  const files = await Array.fromAsync(new Bun.Glob(`tests/${kind.name}/**/*.test.ts`).scan({ cwd: root }));
  return files.filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter)));
}

/** Runs the groups of a kind, as many at once as the kind allows. */
async function runKind(kind: Kind, files: readonly string[]): Promise<GroupResult[]> {
  console.log(`\n── ${kind.name}: ${files.length} ${files.length === 1 ? 'file' : 'files'}`);
  const waiting = processGroups(kind, files);
  const concurrency = Math.min(kind.concurrency, waiting.length);
  const results: GroupResult[] = [];
  const runUntilNoneWaits = async () => {
    for (let group = waiting.shift(); group !== undefined && !interrupted.signal.aborted; group = waiting.shift()) {
      results.push(await runOneGroup(kind, group, concurrency > 1));
    }
  };
  await Promise.all(Array.from({ length: concurrency }, runUntilNoneWaits));
  return results;
}

async function runOneGroup(kind: Kind, files: readonly string[], isConcurrent: boolean): Promise<GroupResult> {
  const number = ++groupsStarted;
  const buffered: string[] = [];
  // The lines of concurrent processes would mix, so the lines of each are printed after its end.
  const write = isConcurrent ? (line: string) => buffered.push(line) : print;
  const result = await runGroup({
    kind,
    files,
    root,
    workDir: join(workDir, String(number)),
    mark: `${runMark}${number}/`,
    env,
    write,
    signal: interrupted.signal,
  });
  for (const line of buffered) print(line);
  if (!interrupted.signal.aborted) for (const problem of result.problems) print(`(fail) ${problem}`);
  return result;
}

function print(line: string): void {
  console.log(line.startsWith('(fail)') && process.stdout.isTTY === true ? styleText('red', line) : line);
}

async function runAll(): Promise<GroupResult[]> {
  const plan = await Promise.all(KINDS.map(async (kind) => ({ kind, files: await findFiles(kind) })));
  // The download of nats-server must not count into the time limit of a test.
  if (plan.some(({ kind, files }) => kind.name !== 'unit' && files.length > 0)) {
    await ensureNatsServer({ path: process.env.PATH, toolchainDir: resolve(root, '.toolchain'), log: console.error });
  }
  const results: GroupResult[] = [];
  for (const { kind, files } of plan) {
    if (files.length > 0 && !interrupted.signal.aborted) results.push(...(await runKind(kind, files)));
  }
  return results;
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, async () => {
    if (interrupted.signal.aborted) return;
    interrupted.abort();
    await endLeftoverProcesses(runMark, 0);
  });
}

const startMs = performance.now();
let results: GroupResult[] = [];
let totals = NO_TESTS;
try {
  results = await runAll();
  totals = results.map((result) => result.totals).reduce(addTotals, NO_TESTS);
} catch (error) {
  console.error(`lockfleet: the test run failed before its end: ${errorMessage(error)}`);
  totals = addTotals(totals, { ...NO_TESTS, failed: 1 });
} finally {
  await endLeftoverProcesses(runMark, 0);
  await rm(workDir, { recursive: true, force: true });
}
if (interrupted.signal.aborted) process.exit(EXIT_INTERRUPTED);
if (totals.passed + totals.failed === 0) console.log(`\nno test ran${filters.length > 0 ? ' with that filter' : ''}`);
const secondsByFile = new Map(results.flatMap((result) => [...result.secondsByFile]));
console.log(
  `\nslowest files of ${secondsByFile.size}, ${((performance.now() - startMs) / 1_000).toFixed(0)} s in all:`,
);
for (const line of slowestFiles(secondsByFile, SLOWEST_FILES)) console.log(line);
console.log(`\n${summary(totals)}`);
process.exit(totals.failed > 0 || totals.passed === 0 ? 1 : 0);
