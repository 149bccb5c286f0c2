/** Promotes a run that was built: it replaces the run that serves, in one transaction. */

import type { Postgres, Sql } from '../../../platform/postgres/connection.ts';
import { type Run, tryLockProjection } from './runs.ts';

/** The longest wait for the lock of one checkpoint of the run that serves: the transaction that holds it applies one batch. */
const LOCK_TIMEOUT = '1s';
const POLL_INTERVAL_MS = 10;

export interface Promotion {
  readonly run: Run;
  /** The end of the store a moment ago: a position that the run must have passed before the run that serves is stopped. */
  readonly end: number;
  /** The longest time for which the run that serves stands still while the new run becomes level with it. */
  readonly holdMs: number;
  readonly sleep: (ms: number) => Promise<unknown>;
  /** Asks the process that fills the new run to write as soon as it has reached a position. */
  readonly writeAt: (position: number) => void;
}

/**
 * Promotes a run that is level with the run that serves in every lane, so that no reader goes back in time. A run that has not
 * passed `end` yet does not make the run that serves stand still.
 *
 * @returns `serving` when the run serves now; `behind` when it has not passed `end`, or did not become level within `holdMs`;
 *   `busy` while another process changes the runs of the projection; `ended` when the run was cancelled or failed
 */
export function promoteRun(
  postgres: Postgres,
  { run, end, holdMs, sleep, writeAt }: Promotion,
): Promise<'serving' | 'behind' | 'busy' | 'ended'> {
  return postgres.transaction(async (tx) => {
    // This lock holds up a cancellation of the run, and not the processes that fill it.
    if (!(await tryLockProjection(tx, run.projection))) return 'busy';
    const [own] = await tx<{ status: string }[]>`select status from platform.projection_runs where id = ${run.id}`;
    if (own?.status !== 'building') return own?.status === 'serving' ? 'serving' : 'ended';
    if (!(await hasPassedPosition(tx, run.id, end))) return 'behind';
    await tx.script(`set local lock_timeout = '${LOCK_TIMEOUT}'`);
    const serving = await tx<{ position: number }[]>`
      select c.position from platform.projection_checkpoints c
      join platform.projection_runs r on r.id = c.run_id
      where r.projection = ${run.projection} and r.status = 'serving'
      order by c.lane for update of c`;
    writeAt(Math.max(end, ...serving.map(({ position }) => position)));
    for (let heldMs = 0; !(await isLevel(tx, run)); heldMs += POLL_INTERVAL_MS) {
      if (heldMs >= holdMs) return 'behind';
      await sleep(POLL_INTERVAL_MS);
    }
    await tx`
      update platform.projection_runs set status = 'retired', ended_at = now()
      where projection = ${run.projection} and status = 'serving'`;
    await tx`update platform.projection_runs set status = 'serving', served_at = now() where id = ${run.id}`;
    return 'serving';
  });
}

/** Whether every lane of a run is as far as the run that serves, whichever process fills the lane. */
async function isLevel(sql: Sql, run: Run): Promise<boolean> {
  const [row] = await sql<{ behind: number }[]>`
    select count(*) as behind from platform.projection_checkpoints c
    join platform.projection_checkpoints old on old.lane = c.lane
    join platform.projection_runs r on r.id = old.run_id and r.projection = ${run.projection} and r.status = 'serving'
    where c.run_id = ${run.id} and c.position < old.position`;
  return row?.behind === 0;
}

/** Whether every lane of a run has passed a position, whichever process fills the lane. It takes no lock. */
export async function hasPassedPosition(sql: Sql, runId: number, position: number): Promise<boolean> {
  const [row] = await sql<{ behind: number }[]>`
    select count(*) as behind from platform.projection_checkpoints where run_id = ${runId} and position < ${position}`;
  return row?.behind === 0;
}
