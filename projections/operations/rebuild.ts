/**
 * `./run projections rebuild NAME` and `cancel NAME`. The work is done by the platform's processes: whoever watches here may
 * go away, and what was asked for goes on.
 */

import type { Postgres, Sql } from '../../platform/postgres/connection.ts';
import { cancelRebuild, requestRebuild } from '../engine/queries/rebuilds.ts';
import { formatDuration, formatNumber, type Output, ProgressDisplay } from './progress-display.ts';

const POLL_INTERVAL_MS = 500;
/** When no process has taken it up by then, that is said. */
const TAKEN_UP_WITHIN_MS = 3_000;

export interface OperationContext {
  readonly postgres: Postgres;
  readonly output: Output;
  /** Milliseconds that only go forward. */
  readonly clock: () => number;
  readonly sleep: (ms: number) => Promise<unknown>;
  /** The end of the event store. */
  readonly lastSequence: () => Promise<number>;
  /** Whoever is at the terminal has enough. */
  readonly interrupted: AbortSignal;
  /** Who asks. */
  readonly by: string;
}

/** Exit statuses: done; failed; interrupted, while the work goes on. */
const DONE = 0;
const FAILED = 1;
const INTERRUPTED = 130;

interface RunRow {
  readonly status: 'requested' | 'building' | 'serving' | 'retired' | 'cancelled' | 'failed';
  readonly events: number;
  readonly position: number;
  readonly ended_because: string | null;
  readonly took_s: number | null;
}

/** Asks for a rebuild, or joins one that is under way, and shows it until it ends. @returns the exit status */
export async function rebuild(projection: string, operation: OperationContext): Promise<number> {
  const { postgres, output, clock, sleep, lastSequence, interrupted, by } = operation;
  const display = new ProgressDisplay(projection, output, clock);
  const asked = await requestRebuild(postgres, projection, by);
  if (asked === undefined) {
    display.printLine(`there is no projection ${projection}`);
    return FAILED;
  }
  if (!asked.isNew) display.printLine(`${projection} is being rebuilt already: this shows it`);
  const askedAtMs = clock();
  let saidWaiting = false;
  while (!interrupted.aborted) {
    const run = await readRun(postgres.sql, asked.runId);
    const end = await lastSequence();
    switch (run.status) {
      case 'serving':
      case 'retired': {
        const tookS = run.took_s ?? 0;
        const rate = tookS > 0 ? `, ${formatNumber(run.events / tookS)}/s` : '';
        display.printLine(
          `${projection} is rebuilt: ${formatNumber(run.events)} events in ${formatDuration(tookS)}${rate}`,
        );
        return DONE;
      }
      case 'cancelled':
      case 'failed':
        display.printLine(
          `the rebuild of ${projection} ${run.status === 'failed' ? 'failed' : 'was called off'}: ${run.ended_because}`,
        );
        return FAILED;
      case 'requested':
        if (!saidWaiting && clock() - askedAtMs > TAKEN_UP_WITHIN_MS) {
          saidWaiting = true;
          display.printLine('it is noted, but no projections process has taken it up yet: does one run?');
        }
        break;
      case 'building':
        display.show({ share: end === 0 ? 1 : Math.min(1, run.position / end), events: run.events });
        break;
    }
    await sleep(POLL_INTERVAL_MS);
  }
  display.printLine(
    `the rebuild of ${projection} goes on without this terminal; ./run projections rebuild ${projection} shows it again, ` +
      `./run projections cancel ${projection} calls it off`,
  );
  return INTERRUPTED;
}

/** Calls a rebuild off. @returns the exit status */
export async function cancel(projection: string, { postgres, output, by }: OperationContext): Promise<number> {
  const outcome = await cancelRebuild(postgres, projection, by);
  const said = {
    cancelled: `the rebuild of ${projection} is called off; what served goes on serving`,
    none: `${projection} is not being rebuilt`,
    needed: `the code needs this run of ${projection} and would begin it again; run the code of before to do without it`,
  }[outcome];
  output.write(`${said}\n`);
  return outcome === 'cancelled' ? DONE : FAILED;
}

async function readRun(sql: Sql, runId: number): Promise<RunRow> {
  const [row] = await sql<RunRow[]>`
    select status, events, ended_because,
      extract(epoch from served_at - started_at)::double precision as took_s,
      coalesce((select avg(position)::bigint from platform.projection_checkpoints c where c.run_id = r.id), 0) as position
    from platform.projection_runs r where id = ${runId}`;
  if (row === undefined) throw new Error(`run ${runId} has vanished`);
  return row;
}
