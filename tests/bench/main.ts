/**
 * `./run bench [NAME…] [--json] [--smoke] [--units=N] [--steady-s=S]`: benchmarks, each beside its peer or ceiling from the same run.
 * `--json` prints JSON and nothing else on standard output. `--smoke` runs the smallest sizes. `--units` and `--steady-s` are those
 * of `pinger`.
 *
 * This process only supervises. The benchmarks run in a child process with the identifier of the run in its environment, which every
 * process that they start inherits. By that identifier this process finds and kills the processes that are left, whether the
 * benchmarks ended, crashed or were killed. When this process is killed, the child process sees the end of its standard input and
 * does the same.
 */

import { chmod, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { processIdentity } from '../../platform/process/identity.ts';
import { endRun, RUN_VARIABLE, SIGNAL_STATUS, STOP_GRACE_MS } from './run-end.ts';

const PARENT_POLL_MS = 500;
const FAILURE_STATUS = 1;

const parentIdentity = processIdentity(process.ppid);
const runId = crypto.randomUUID();
const folder = await mkdtemp(join(tmpdir(), 'lockfleet-bench-'));
// When root runs the benchmarks, the account that runs Postgres for root must be able to enter the folder.
await chmod(folder, 0o755);

const child = Bun.spawn([process.execPath, resolve(import.meta.dir, 'run-benchmarks.ts'), ...process.argv.slice(2)], {
  env: { ...process.env, [RUN_VARIABLE]: runId, TMPDIR: folder },
  stdio: ['pipe', 'inherit', 'inherit'],
});
let signalStatus: number | undefined;
let killTimer: ReturnType<typeof setTimeout> | undefined;

function stop(status: number): void {
  signalStatus ??= status;
  child.kill('SIGTERM');
  killTimer ??= setTimeout(() => child.kill('SIGKILL'), STOP_GRACE_MS);
}

for (const [signal, status] of Object.entries(SIGNAL_STATUS)) process.on(signal, () => stop(status));
// A parent that SIGKILL ends, such as `bun run`, cannot pass a signal on.
const parentPoll = setInterval(() => {
  if (processIdentity(process.ppid) !== parentIdentity && signalStatus === undefined) stop(SIGNAL_STATUS.SIGTERM);
}, PARENT_POLL_MS);

await child.exited;
clearInterval(parentPoll);
clearTimeout(killTimer);
await endRun(runId, folder);
process.exit(signalStatus ?? child.exitCode ?? FAILURE_STATUS);
