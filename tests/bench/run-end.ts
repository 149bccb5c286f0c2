/** The end of a run of benchmarks: `main.ts` ends what is left, or `run-benchmarks.ts` when `main.ts` was killed. */

import { rm } from 'node:fs/promises';
import { endLeftoverProcesses } from '../../commands/test/leftover-processes.ts';

/** The environment variable with the identifier of the run, which every process that the benchmarks start inherits. */
export const RUN_VARIABLE = 'LOCKFLEET_BENCH_RUN';
/** How long the benchmarks may take to stop their processes in order. */
export const STOP_GRACE_MS = 15_000;
/** Status of a run that a signal ended. */
export const SIGNAL_STATUS = { SIGINT: 130, SIGTERM: 143 } as const;
/** How long a process may take to end after the benchmarks ended. */
const LEFT_PROCESS_GRACE_MS = 2_000;

/** Kills the processes of a run that are left, prints their command lines on standard error, and removes the folder of the run. */
export async function endRun(runId: string, folder: string): Promise<void> {
  const left = await endLeftoverProcesses(`${RUN_VARIABLE}=${runId}`, LEFT_PROCESS_GRACE_MS);
  await rm(folder, { recursive: true, force: true });
  for (const name of left) console.error(`the benchmarks left a process running; it was ended: ${name}`);
}
