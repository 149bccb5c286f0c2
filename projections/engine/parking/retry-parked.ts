/** Retries parked units: all of a run when a process starts to fill it, and single units at the request of an operator. */

import { laneOf } from '../../../domain/shard.ts';
import type { EventStore } from '../../../platform/event-store/store.ts';
import type { Log } from '../../../platform/observability/log.ts';
import type { Postgres } from '../../../platform/postgres/connection.ts';
import { parseCommit } from '../consume/parse-commit.ts';
import { type Commit, MAX_BATCH_EVENTS, type Projection } from '../projection.ts';
import type { Run } from '../runs/runs.ts';
import { applyUnitByUnit, type Poison, park, readParked } from './parking.ts';

export interface RetryContext {
  readonly postgres: Postgres;
  readonly store: EventStore;
  readonly log: Log;
}

/**
 * Retries every parked unit of some lanes: newer code may be able to apply what the code that parked the unit could not.
 * @returns the names of these units
 */
export async function retryAllParked(
  context: RetryContext,
  projection: Projection,
  run: Run,
  lanes: readonly number[],
): Promise<readonly string[]> {
  const units = [...(await readParked(context.postgres.sql, run.id, lanes)).keys()];
  for (const unit of units) await retryUnit(context, projection, run, unit);
  return units;
}

/** Retries the parked units of some lanes for which an operator has requested it. @returns the names of these units */
export async function retryRequestedUnits(
  context: RetryContext,
  projection: Projection,
  run: Run,
  lanes: readonly number[],
): Promise<readonly string[]> {
  const rows = await context.postgres.sql<{ unit: string }[]>`
    select unit from platform.projection_parked
    where run_id = ${run.id} and retry_requested_at is not null and lane = any(${lanes}::smallint[]) order by unit`;
  for (const { unit } of rows) await retryUnit(context, projection, run, unit);
  return rows.map(({ unit }) => unit);
}

async function retryUnit(context: RetryContext, projection: Projection, run: Run, unit: string): Promise<void> {
  const poison = await applyParkedCommits(context, projection, run, unit);
  if (poison === undefined)
    context.log.info('a parked unit was unparked: its waiting events are applied', {
      projection: run.projection,
      unit,
    });
  else
    context.log.error('the retry of a parked unit failed: the unit stays parked', {
      projection: run.projection,
      ...poison,
    });
}

/**
 * Applies the waiting commits of a parked unit in order, up to the checkpoint of its lane, and unparks the unit. Messages that
 * are no commits were logged when the lane passed them.
 *
 * @returns the commit at which it failed again and the unit is parked now
 */
async function applyParkedCommits(
  { postgres, store }: RetryContext,
  projection: Projection,
  run: Run,
  unit: string,
): Promise<Poison | undefined> {
  const [known] = await postgres.sql<{ position: number }[]>`
    select position from platform.projection_parked where run_id = ${run.id} and unit = ${unit}`;
  if (known === undefined) return undefined;
  // The tail of a unit may be long, and the lane must not stand still while it is read.
  const read = await store.tail(unit, known.position - 1);
  return postgres.transaction(async (tx) => {
    const [lane] = await tx<{ position: number }[]>`
      select position from platform.projection_checkpoints
      where run_id = ${run.id} and lane = ${laneOf(unit)} for update`;
    const [parked] = await tx<{ position: number }[]>`
      select position from platform.projection_parked where run_id = ${run.id} and unit = ${unit}`;
    if (lane === undefined || parked === undefined) return undefined;
    const since = await store.tail(unit, read.at(-1)?.sequence ?? known.position - 1);
    const waiting = [...read, ...since]
      .filter(({ sequence }) => sequence >= parked.position && sequence <= lane.position)
      .flatMap((message) => parseCommit(message, () => undefined) ?? []);
    for (const batch of batchesOf(waiting)) {
      const [poison] = await applyUnitByUnit(tx, projection, run.schema, batch);
      if (poison === undefined) continue;
      await park(tx, run.id, poison);
      return poison;
    }
    await tx`delete from platform.projection_parked where run_id = ${run.id} and unit = ${unit}`;
    return undefined;
  });
}

/** Splits commits into batches of at most `MAX_BATCH_EVENTS` events; a larger commit is a batch of its own. */
function* batchesOf(commits: readonly Commit[]): Iterable<Commit[]> {
  let batch: Commit[] = [];
  let events = 0;
  for (const commit of commits) {
    if (batch.length > 0 && events + commit.events.length > MAX_BATCH_EVENTS) {
      yield batch;
      batch = [];
      events = 0;
    }
    batch.push(commit);
    events += commit.events.length;
  }
  if (batch.length > 0) yield batch;
}
