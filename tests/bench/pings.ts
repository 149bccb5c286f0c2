/**
 * The pinger without the platform: its rounds, its pool of threads and its probes, over units from a file. Takes a task as JSON
 * on stdin, prints its findings.
 */

import { unitHash } from '../../domain/shard.ts';
import { PingPool } from '../../pinger/pool/ping-pool.ts';
import { systemClock } from '../../pinger/runtime/clock.ts';
import { PingSchedule, slotWidthMs } from '../../pinger/schedule/ping-schedule.ts';
import { PingScheduler } from '../../pinger/schedule/ping-scheduler.ts';
import { PingCounters } from '../../pinger/telemetry/ping-counters.ts';
import { UnitIndex } from '../../pinger/units/unit-index.ts';
import { PROBE_NUMBERS, UnitTable } from '../../pinger/units/unit-table.ts';
import { createLog } from '../../platform/observability/log.ts';

export interface PingsTask {
  /** A file with the name, the key (hex) and the address of a unit on each line. */
  readonly file: string;
  /** Unit number n listens at the one with this number, modulo how many there are. */
  readonly ports: readonly number[];
  readonly probe: keyof typeof PROBE_NUMBERS;
  /** Whether connections of the HTTP probe are kept. */
  readonly keepAlive: boolean;
  readonly threads: number;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Pings and CPU time of this first period are not counted. */
  readonly warmUpMs: number;
  readonly runMs: number;
}

export interface PingsFindings {
  /** In the time that counts. */
  readonly pings: number;
  readonly answered: number;
  /** Of the process with all its threads, in that time. */
  readonly cpuS: number;
}

const US_PER_S = 1_000_000;
/** A run on a busy machine goes on until this number of pings is answered, because the CPU time is divided by it. */
const MIN_ANSWERED = 10;
const MAX_EXTENSION_MS = 10_000;
const EXTENSION_STEP_MS = 50;

const task = (await Bun.stdin.json()) as PingsTask;
const { threads, intervalMs, timeoutMs, warmUpMs, runMs } = task;
const lines = (await Bun.file(task.file).text()).trimEnd().split('\n');
const log = createLog((line) => process.stderr.write(line), Date.now, { process: 'pings' });
const schedule = new PingSchedule(intervalMs, slotWidthMs(timeoutMs));
const table = UnitTable.create(lines.length);
const roster = new UnitIndex(table.capacity);
const meter = new PingCounters(systemClock.monotonic);
const pool = new PingPool({
  worker: new URL('../../pinger/pool/worker.ts', import.meta.url),
  threads,
  taskMs: schedule.widthMs + timeoutMs,
  settings: { table: table.shared, timeoutMs, httpKeepAlive: task.keepAlive },
  log,
});
const rounds = new PingScheduler({
  schedule,
  table,
  unitIndex: roster,
  pool,
  threads,
  timeoutMs,
  clock: systemClock,
  counters: meter,
  onResults: () => undefined,
  log,
});
for (const [place, line] of lines.entries()) {
  const [name = '', key = '', ip = ''] = line.split(' ');
  const index = roster.add(name);
  if (index === undefined) throw new Error(`there is no place for ${name}`);
  const port = task.ports[place % task.ports.length] ?? 0;
  rounds.upsert(index, {
    name,
    hash: unitHash(name),
    ip,
    port,
    probe: PROBE_NUMBERS[task.probe],
    key: Buffer.from(key, 'hex'),
  });
}
rounds.start();
await Bun.sleep(warmUpMs);
const [before, cpuBefore] = [meter.totals, process.cpuUsage()];
await Bun.sleep(runMs);
const extensionEndMs = performance.now() + MAX_EXTENSION_MS;
while (meter.totals.answered - before.answered < MIN_ANSWERED && performance.now() < extensionEndMs)
  await Bun.sleep(EXTENSION_STEP_MS);
const [after, cpu] = [meter.totals, process.cpuUsage(cpuBefore)];
const findings: PingsFindings = {
  pings: after.pings - before.pings,
  answered: after.answered - before.answered,
  cpuS: (cpu.user + cpu.system) / US_PER_S,
};
console.log(JSON.stringify(findings));
await Promise.all([pool.stop(), rounds.stop()]);
process.exit(0);
