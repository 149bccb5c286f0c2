import { chmod, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { eachLine, type LineSink } from '../../platform/process/lines.ts';
import { type JunitReport, readJunit, type TestCase } from './junit.ts';
import type { Kind } from './kinds.ts';
import { endLeftoverProcesses } from './leftover-processes.ts';
import { RunnerOutput } from './runner-output.ts';
import { addTotals, NO_TESTS, type Totals } from './totals.ts';
import { judgeCrash, judgeReport, type Verdict } from './verdict.ts';

export interface GroupOptions {
  readonly kind: Pick<Kind, 'testTimeoutMs' | 'processTimeoutMs'>;
  /** The test files that share the process, relative to `root`. */
  readonly files: readonly string[];
  readonly root: string;
  /** A new folder for the report and for everything that tests put into the temporary folder. It is removed afterwards. */
  readonly workDir: string;
  /** An environment variable, `NAME=VALUE`, by which the runner finds every process that a test started. */
  readonly mark: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Receives what the runner and the tests print. */
  readonly write: LineSink;
  /** After it has aborted, no further process starts. The caller ends the running processes. */
  readonly signal: AbortSignal;
}

export interface GroupResult {
  readonly totals: Totals;
  /** One sentence for each failure that is not the failure of a test. */
  readonly problems: readonly string[];
  readonly secondsByFile: ReadonlyMap<string, number>;
}

interface ProcessResult {
  readonly verdict: Verdict;
  readonly secondsByFile: ReadonlyMap<string, number>;
}

const NOTHING_RAN: ProcessResult = {
  verdict: { totals: NO_TESTS, problems: [], notStarted: [] },
  secondsByFile: new Map(),
};

/** How long processes that tests started may take to end after the runner has ended. The others count as left behind. */
const LEFTOVER_GRACE_MS = 3_000;
const LIST_TIMEOUT_MS = 30_000;
/** A regular expression that matches no test: the runner loads the files, runs nothing, and reports every test as skipped. */
const NO_TEST_PATTERN = '^(?!)';

/**
 * Runs test files in one process. When the process dies or hangs, the files that it did not begin run in a further process, so that
 * one file cannot take the results of the others with it.
 */
export async function runGroup(options: GroupOptions): Promise<GroupResult> {
  const { workDir, signal } = options;
  await mkdir(workDir, { recursive: true });
  // When root runs the tests, the account that runs Postgres for root must be able to enter the folder.
  await chmod(workDir, 0o755);
  // The interruption has already looked for processes to end, so it would not find one that starts now.
  const running = signal.aborted ? Promise.resolve(NOTHING_RAN) : runOnce(options);
  const { verdict, secondsByFile } = await running.finally(() => rm(workDir, { recursive: true, force: true }));
  const { totals, problems, notStarted } = verdict;
  const result = { totals, problems, secondsByFile };
  if (notStarted.length === 0 || signal.aborted) return result;
  const rest = await runGroup({ ...options, files: notStarted });
  return {
    totals: addTotals(totals, rest.totals),
    problems: [...problems, ...rest.problems],
    secondsByFile: new Map([...secondsByFile, ...rest.secondsByFile]),
  };
}

async function runOnce(options: GroupOptions): Promise<ProcessResult> {
  const { files, workDir, write, kind, mark } = options;
  const reportFile = join(workDir, 'report.xml');
  const output = new RunnerOutput();
  const startMs = performance.now();
  const runner = spawnRunner(options, files, reportFile, kind.processTimeoutMs);
  const readLine: LineSink = (line) => {
    output.readLine(line);
    write(line);
  };
  const printed = Promise.all([eachLine(runner.stdout, readLine), eachLine(runner.stderr, readLine)]);
  await runner.exited;
  const elapsedMs = performance.now() - startMs;
  // A process that a test left behind may hold the pipes of the runner: they end after it.
  const leftover = await endLeftoverProcesses(mark, LEFTOVER_GRACE_MS);
  await printed;
  const report = await readReport(reportFile);
  const [firstFile = ''] = files;
  const wholeProcess = new Map([[firstFile, elapsedMs / 1_000]]);
  if (report !== undefined) {
    const verdict = withLeftoverProcesses(judgeReport(files, report, runner.exitCode), files, leftover);
    return { verdict, secondsByFile: files.length === 1 ? wholeProcess : report.secondsByFile };
  }
  // A runner that crashed or was killed could not stop the processes of its tests, so they do not count as left behind.
  const cause = elapsedMs < kind.processTimeoutMs ? describeEnd(runner) : `limit of ${kind.processTimeoutMs / 1_000} s`;
  const lastFile = output.startedFiles.at(-1);
  const declared = lastFile === undefined ? [] : await listTests(options, lastFile);
  const secondsByFile = files.length === 1 ? wholeProcess : new Map<string, number>();
  return { verdict: judgeCrash(files, output, cause, declared), secondsByFile };
}

function withLeftoverProcesses(verdict: Verdict, files: readonly string[], leftover: readonly string[]): Verdict {
  const problems = leftover.map((name) => `${files.join(', ')} left a process behind: ${name}`);
  return {
    ...verdict,
    totals: addTotals(verdict.totals, { ...NO_TESTS, failed: problems.length }),
    problems: [...verdict.problems, ...problems],
  };
}

function spawnRunner(
  { root, workDir, mark, env, kind }: GroupOptions,
  files: readonly string[],
  reportFile: string,
  timeoutMs: number,
  ...further: string[]
) {
  const [markName = '', markValue = ''] = mark.split('=');
  return Bun.spawn(
    [
      ...[process.execPath, '--no-env-file', 'test', `--timeout=${kind.testTimeoutMs}`],
      ...['--reporter=junit', `--reporter-outfile=${reportFile}`, ...further],
      ...files.map((file) => `./${file}`),
    ],
    {
      cwd: root,
      env: { ...env, [markName]: markValue, TMPDIR: workDir },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    },
  );
}

async function readReport(path: string): Promise<JunitReport | undefined> {
  const file = Bun.file(path);
  return (await file.exists()) ? readJunit(await file.text()) : undefined;
}

function describeEnd({ exitCode, signalCode }: Pick<Bun.Subprocess, 'exitCode' | 'signalCode'>): string {
  return signalCode === null ? `exit code ${exitCode}` : `signal ${signalCode}`;
}

/** The tests that a file declares, in order; none when the file cannot be listed. */
async function listTests(options: GroupOptions, file: string): Promise<readonly TestCase[]> {
  if (options.signal.aborted) return [];
  const reportFile = join(options.workDir, 'list.xml');
  const runner = spawnRunner(options, [file], reportFile, LIST_TIMEOUT_MS, '--test-name-pattern', NO_TEST_PATTERN);
  await Promise.all([runner.stdout.text(), runner.stderr.text(), runner.exited]);
  return (await readReport(reportFile))?.tests ?? [];
}
