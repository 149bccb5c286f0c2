/** Checkpoints: for each lane of a run, the position up to which the run is applied. */

import type { Sql, Tx } from '../../../platform/postgres/connection.ts';

/** Another process moved a lane, or the run ended. Retryable from the positions as they are now. */
export class FencedError extends Error {
  override readonly name = 'FencedError';
}

/** Position by lane. */
export type Positions = ReadonlyMap<number, number>;

export async function readPositions(sql: Sql, runId: number, lanes: readonly number[]): Promise<Positions> {
  const rows = await sql<{ lane: number; position: number }[]>`
    select lane, position from platform.projection_checkpoints
    where run_id = ${runId} and lane = any(${lanes}::smallint[])`;
  return new Map(rows.map(({ lane, position }) => [lane, position]));
}

/**
 * Moves lanes to one position, each only if it still is at the position that the caller read: this fences a late owner. The
 * rows stay locked until the transaction ends. They are locked in the order of the lanes, so that two owners never wait for each
 * other.
 *
 * @throws FencedError when a lane is at another position, or the run has ended
 */
export async function movePositions(tx: Tx, runId: number, from: Positions, to: number): Promise<void> {
  if (from.size === 0) return;
  const { count } = await tx`
    with locked as (
      select c.lane from platform.projection_checkpoints c
      join unnest(${[...from.keys()]}::smallint[], ${[...from.values()]}::bigint[]) as read(lane, position)
        on read.lane = c.lane and read.position = c.position
      where c.run_id = ${runId} and exists (
        select from platform.projection_runs r
        where r.id = ${runId} and r.status in ('building', 'serving', 'verifying'))
      order by c.lane for update of c)
    update platform.projection_checkpoints c set position = ${to}
    from locked where c.run_id = ${runId} and c.lane = locked.lane`;
  if (count !== from.size)
    throw new FencedError(
      `another process moved ${from.size - count} of ${from.size} lanes of run ${runId}, or the run has ended`,
    );
}
