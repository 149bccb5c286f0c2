/** Promotes a run that was built: it replaces the run that serves, in one transaction. */

import type { Postgres, Sql } from '../../../platform/postgres/connection.ts';
import { lockProjection, type Run } from './runs.ts';

/** The longest time for which a promotion locks the checkpoints of the run that serves. */
const PROMOTION_TIMEOUT_MS = 2_000;
const PROMOTION_POLL_INTERVAL_MS = 20;

/**
 * Promotes a run that has passed `end` and is level with the run that serves in every lane, so that no reader goes back in
 * time. The run that serves stands still while the new run becomes level with it.
 *
 * @returns `serving` when the run serves now; `behind` when it did not become level within `PROMOTION_TIMEOUT_MS`; `ended` when
 *   the run was cancelled or failed meanwhile
 */
export function promoteRun(
  postgres: Postgres,
  run: Run,
  end: number,
  sleep: (ms: number) => Promise<unknown>,
): Promise<'serving' | 'behind' | 'ended'> {
  return postgres.transaction(async (tx) => {
    // This lock holds up a cancellation of the run, and not the process that fills it.
    await lockProjection(tx, run.projection);
    const [own] = await tx<{ status: string }[]>`select status from platform.projection_runs where id = ${run.id}`;
    if (own?.status !== 'building') return own?.status === 'serving' ? 'serving' : 'ended';
    const locked = await tx<{ lane: number; position: number }[]>`
      select c.lane, c.position from platform.projection_checkpoints c
      join platform.projection_runs r on r.id = c.run_id
      where r.projection = ${run.projection} and r.status = 'serving'
      order by c.lane for update of c`;
    for (let waitedMs = 0; ; waitedMs += PROMOTION_POLL_INTERVAL_MS) {
      const [behind] = await tx<{ lanes: number }[]>`
        select count(*) as lanes from platform.projection_checkpoints c
        left join unnest(${locked.map(({ lane }) => lane)}::int[], ${locked.map(({ position }) => position)}::bigint[])
          as old(lane, position) on old.lane = c.lane
        where c.run_id = ${run.id} and c.position < greatest(old.position, ${end})`;
      if (behind?.lanes === 0) break;
      if (waitedMs >= PROMOTION_TIMEOUT_MS) return 'behind';
      await sleep(PROMOTION_POLL_INTERVAL_MS);
    }
    await tx`
      update platform.projection_runs set status = 'retired', ended_at = now()
      where projection = ${run.projection} and status = 'serving'`;
    await tx`update platform.projection_runs set status = 'serving', served_at = now() where id = ${run.id}`;
    return 'serving';
  });
}

/** Whether every lane of a run has passed a position, whichever process fills the lane. It takes no lock. */
export async function hasPassedPosition(sql: Sql, runId: number, position: number): Promise<boolean> {
  const [row] = await sql<{ behind: number }[]>`
    select count(*) as behind from platform.projection_checkpoints where run_id = ${runId} and position < ${position}`;
  return row?.behind === 0;
}
