/**
 * The process in which the benchmarks run, started by `main.ts` with the arguments of `./run bench`. It prints its reports, and stops
 * the processes that it started in order, also at SIGTERM and SIGINT. It ends the run itself when `main.ts` has been killed.
 */

import { runCleanups } from '../support/cleanup.ts';
import { BENCHMARKS, type BenchOptions } from './benchmarks.ts';
import { type BenchReport, format } from './report.ts';
import { endRun, RUN_VARIABLE, SIGNAL_STATUS, STOP_GRACE_MS } from './run-end.ts';

const FAILURE_STATUS = 1;
const USAGE_STATUS = 2;
const OPTIONS = [/^--json$/, /^--smoke$/, /^--units=/, /^--steady-s=/] as const;
const SMOKE_CONDITION = 'smoke sizes: these figures say nothing about speed';

class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** @throws UsageError when the option has a value other than a whole number from 1 to 999,999 */
function numberOption(args: readonly string[], option: string): number | undefined {
  const value = args.find((arg) => arg.startsWith(option))?.slice(option.length);
  if (value !== undefined && !/^[1-9]\d{0,5}$/.test(value))
    throw new UsageError(`${option} takes a whole number from 1 to 999999, not '${value}'`);
  return value === undefined ? undefined : Number(value);
}

/** @throws UsageError for an option that does not exist, or has a wrong value */
function readOptions(args: readonly string[]): BenchOptions {
  const unknown = args.filter((arg) => arg.startsWith('-') && !OPTIONS.some((option) => option.test(arg)));
  if (unknown.length > 0)
    throw new UsageError(
      `there is no option ${unknown.join(', ')}; there are --json, --smoke, --units=N, --steady-s=S`,
    );
  const units = numberOption(args, '--units=');
  const steadyS = numberOption(args, '--steady-s=');
  return {
    size: args.includes('--smoke') ? 'smoke' : 'full',
    ...(units === undefined ? {} : { units }),
    ...(steadyS === undefined ? {} : { steadyS }),
  };
}

/** @throws UsageError when a name is no benchmark. @returns all names when none is given */
function selectedNames(args: readonly string[]): string[] {
  const names = args.filter((arg) => !arg.startsWith('-'));
  const all = Object.keys(BENCHMARKS);
  const unknown = names.filter((name) => !all.includes(name));
  if (unknown.length > 0)
    throw new UsageError(`there is no benchmark ${unknown.join(', ')}; there are ${all.join(', ')}`);
  return names.length === 0 ? all : all.filter((name) => names.includes(name));
}

/** Prints tables on standard output; with `--json` the tables go to standard error and standard output gets the JSON alone. */
async function runBenchmarks(args: readonly string[]): Promise<void> {
  const options = readOptions(args);
  const isJson = args.includes('--json');
  const reports: BenchReport[] = [];
  for (const name of selectedNames(args)) {
    const report = await BENCHMARKS[name]?.(options);
    if (report === undefined) continue;
    const conditions = [...(options.size === 'smoke' ? [SMOKE_CONDITION] : []), ...report.conditions];
    reports.push({ ...report, conditions });
    await Bun.write(isJson ? Bun.stderr : Bun.stdout, `${format({ ...report, conditions })}\n`);
  }
  if (isJson) await Bun.write(Bun.stdout, `${JSON.stringify(reports, undefined, 2)}\n`);
}

// Standard output belongs to the reports. What support code logs, such as the seed of random numbers, goes to standard error.
console.log = console.error;
console.info = console.error;

let ending: Promise<never> | undefined;
let isSupervised = true;

/** Stops everything that is registered and exits. A further call waits for the first one, whose status counts. */
function end(status: number): Promise<never> {
  ending ??= (async () => {
    const failures = await runCleanups();
    for (const failure of failures) console.error(failure);
    if (!isSupervised) await endThisRun();
    return process.exit(status);
  })();
  return ending;
}

async function endThisRun(): Promise<void> {
  const { [RUN_VARIABLE]: runId, TMPDIR: folder } = process.env;
  if (runId !== undefined && folder !== undefined) await endRun(runId, folder);
}

/** `main.ts` holds the other end of standard input: the input ends when `main.ts` has been killed. */
async function endWithSupervisor(): Promise<void> {
  await Bun.stdin.text();
  isSupervised = false;
  setTimeout(() => void endThisRun().finally(() => process.exit(FAILURE_STATUS)), STOP_GRACE_MS);
  await end(FAILURE_STATUS);
}

void endWithSupervisor();
for (const [signal, status] of Object.entries(SIGNAL_STATUS)) process.on(signal, () => void end(status));
process.on('unhandledRejection', (error) => {
  if (ending === undefined) console.error(error);
  void end(FAILURE_STATUS);
});

try {
  await runBenchmarks(process.argv.slice(2));
  await end(0);
} catch (error) {
  // Benchmarks fail when their processes are ended by a signal: the signal is the cause, and decides the status.
  if (ending === undefined) console.error(error instanceof UsageError ? error.message : error);
  await end(error instanceof UsageError ? USAGE_STATUS : FAILURE_STATUS);
}
