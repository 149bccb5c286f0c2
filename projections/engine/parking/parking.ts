/**
 * Parked units. An event that cannot be applied stops its unit in that projection, and no other: the unit's later commits
 * wait behind it in the store, in order, while its lane goes on. What waits is applied when somebody asks for it, and when a
 * process starts, with code that may know better.
 *
 * What holds: whoever passes over a parked unit proves in the same transaction that it is parked, and whoever takes a unit
 * out of the park holds its lane meanwhile. So two owners of a lane lose nothing between them.
 */

import { laneOf } from '../../../domain/shard.ts';
import type { EventStore } from '../../../platform/event-store/store.ts';
import type { Log } from '../../../platform/observability/log.ts';
import type { Postgres, Sql, Tx } from '../../../platform/postgres/connection.ts';
import { codeOf } from '../../../platform/postgres/errors.ts';
import { isRetryable } from '../../../platform/retry/retry-policy.ts';
import { FencedError } from '../checkpoints/checkpoints.ts';
import { parseCommit } from '../consume/parse-commit.ts';
import type { Commit, Projection } from '../projection.ts';
import type { Run } from '../runs/runs.ts';

/** Events in one call of `apply`. */
export const MAX_BATCH_EVENTS = 8_000;
/** Longest reason that is kept. */
const MAX_REASON_LENGTH = 1_000;

/** SQLSTATE classes that speak of the values: data exception, integrity violation, program limit exceeded. */
const VALUE_ERROR = /^(22|23|54)/;
const SQLSTATE = /^[0-9A-Z]{5}$/;

/** Where a unit stopped, and why. */
export interface Poison {
  readonly unit: string;
  /** The commit that could not be applied. */
  readonly position: number;
  readonly reason: string;
}

/** Whether an error comes from what is in an event, and not from the state of the database or the engine. */
export function isPoison(error: unknown): boolean {
  if (isRetryable(error) || error instanceof FencedError) return false;
  const code = codeOf(error);
  return code === undefined || !SQLSTATE.test(code) || VALUE_ERROR.test(code);
}

/** Parked units of some lanes, with the position at which each stopped. */
export async function readParked(sql: Sql, runId: number, lanes: readonly number[]): Promise<Map<string, number>> {
  const rows = await sql<{ unit: string; position: number }[]>`
    select unit, position from platform.projection_parked
    where run_id = ${runId} and lane = any(${lanes}::smallint[]) order by unit`;
  return new Map(rows.map(({ unit, position }) => [unit, position]));
}

export async function park(tx: Tx, runId: number, { unit, position, reason }: Poison): Promise<void> {
  await tx`
    insert into platform.projection_parked (run_id, unit, lane, position, reason)
    values (${runId}, ${unit}, ${laneOf(unit)}, ${position}, ${reason})
    on conflict (run_id, unit) do update set position = excluded.position, reason = excluded.reason,
      retry_requested_at = null, retries = projection_parked.retries + 1`;
}

/** @throws FencedError when one of the units is parked no longer */
export async function requireParked(tx: Tx, runId: number, units: readonly string[]): Promise<void> {
  if (units.length === 0) return;
  const parked = await tx`
    select 1 from platform.projection_parked where run_id = ${runId} and unit = any(${units}::text[]) for share`;
  if (parked.length !== units.length) throw new FencedError('a parked unit was taken up by somebody else');
}

/**
 * Applies a batch unit by unit, and one that fails commit by commit up to where it fails.
 *
 * @returns the units that could not be applied whole
 */
export async function applyUnitByUnit(
  tx: Tx,
  projection: Projection,
  schema: string,
  batch: readonly Commit[],
): Promise<Poison[]> {
  const poisons: Poison[] = [];
  for (const commits of Map.groupBy(batch, (commit) => commit.unit).values()) {
    const whole = await tryApply(tx, projection, schema, commits);
    if (whole === undefined) continue;
    for (const commit of commits) {
      const reason = await tryApply(tx, projection, schema, [commit]);
      if (reason === undefined) continue;
      poisons.push({ unit: commit.unit, position: commit.sequence, reason });
      break;
    }
  }
  return poisons;
}

/** Applies commits or nothing of them. @returns why they could not be applied */
async function tryApply(
  tx: Tx,
  projection: Projection,
  schema: string,
  commits: readonly Commit[],
): Promise<string | undefined> {
  try {
    await tx.savepoint(() => projection.apply(tx, schema, commits));
    return undefined;
  } catch (error) {
    if (!isPoison(error)) throw error;
    return (error instanceof Error ? `${error.name}: ${error.message}` : String(error)).slice(0, MAX_REASON_LENGTH);
  }
}

/**
 * Applies what waits of a parked unit, in order, up to where its lane is. What is no commit was told when it was passed.
 *
 * @returns where it stopped again, if it did
 */
function applyParkedCommits(
  { postgres, store }: RetryContext,
  projection: Projection,
  run: Run,
  unit: string,
): Promise<Poison | undefined> {
  return postgres.transaction(async (tx) => {
    const [lane] = await tx<{ position: number }[]>`
      select position from platform.projection_checkpoints
      where run_id = ${run.id} and lane = ${laneOf(unit)} for update`;
    const [parked] = await tx<{ position: number }[]>`
      select position from platform.projection_parked where run_id = ${run.id} and unit = ${unit}`;
    if (lane === undefined || parked === undefined) return undefined;
    const tail = await store.tail(unit, parked.position - 1);
    const waiting = tail
      .filter((message) => message.sequence <= lane.position)
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

interface RetryContext {
  readonly postgres: Postgres;
  readonly store: EventStore;
  readonly log: Log;
}

/** Retries every parked unit of some lanes: this code may apply what the code before it could not. @returns their names */
export async function retryAllParked(
  desk: RetryContext,
  projection: Projection,
  run: Run,
  lanes: readonly number[],
): Promise<readonly string[]> {
  const units = [...(await readParked(desk.postgres.sql, run.id, lanes)).keys()];
  for (const unit of units) await retryUnit(desk, projection, run, unit);
  return units;
}

/** Retries the parked units of some lanes whose retry an operator has requested. @returns their names */
export async function retryRequestedUnits(
  desk: RetryContext,
  projection: Projection,
  run: Run,
  lanes: readonly number[],
): Promise<readonly string[]> {
  const rows = await desk.postgres.sql<{ unit: string }[]>`
    select unit from platform.projection_parked
    where run_id = ${run.id} and retry_requested_at is not null and lane = any(${lanes}::smallint[]) order by unit`;
  for (const { unit } of rows) await retryUnit(desk, projection, run, unit);
  return rows.map(({ unit }) => unit);
}

async function retryUnit(desk: RetryContext, projection: Projection, run: Run, unit: string): Promise<void> {
  const poison = await applyParkedCommits(desk, projection, run, unit);
  if (poison === undefined) desk.log.info('a parked unit was taken up', { projection: run.projection, unit });
  else desk.log.error('a parked unit stays parked', { projection: run.projection, ...poison });
}

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
