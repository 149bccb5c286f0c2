/**
 * Parked units. An event that a projection cannot apply stops its unit in that projection and no other unit: the lane goes on,
 * and the later commits of the parked unit wait in the event store behind the failed one. `catch-up.ts` applies them later.
 *
 * Invariants. A process that passes over a parked unit proves in the same transaction that the unit is still parked, and a
 * process that unparks a unit locks its lane meanwhile. So two owners of a lane never skip a commit between them. The commits
 * of a parked unit before its `position` are applied, those from `position` on are not.
 */

import { laneOf } from '../../../domain/shard.ts';
import type { Sql, Tx } from '../../../platform/postgres/connection.ts';
import { codeOf } from '../../../platform/postgres/errors.ts';
import { isRetryable } from '../../../platform/retry/retry-policy.ts';
import { FencedError } from '../checkpoints/checkpoints.ts';
import type { Commit, Projection } from '../projection.ts';

/** Bound of the stored reason; longer ones are cut. */
export const MAX_REASON_LENGTH = 1_000;

/** SQLSTATE classes that concern values: data exception, integrity constraint violation, program limit exceeded. */
const VALUE_ERROR = /^(22|23|54)/;
const SQLSTATE = /^[0-9A-Z]{5}$/;

/** A commit that a projection cannot apply. */
export interface Poison {
  readonly unit: string;
  readonly position: number;
  readonly reason: string;
}

/** Whether an error comes from the content of an event, and not from the state of the database or of the engine. */
export function isPoison(error: unknown): boolean {
  if (isRetryable(error) || error instanceof FencedError) return false;
  const code = codeOf(error);
  return code === undefined || !SQLSTATE.test(code) || VALUE_ERROR.test(code);
}

/** Reads the parked units of some lanes, each with the position from which on its commits wait. */
export async function readParked(sql: Sql, runId: number, lanes: readonly number[]): Promise<Map<string, number>> {
  const rows = await sql<{ unit: string; position: number }[]>`
    select unit, position from platform.projection_parked
    where run_id = ${runId} and lane = any(${lanes}::smallint[]) order by unit`;
  return new Map(rows.map(({ unit, position }) => [unit, position]));
}

/** Parks a unit. For a unit that is parked already, only its position and reason change. */
export async function park(tx: Tx, runId: number, { unit, position, reason }: Poison): Promise<void> {
  await tx`
    insert into platform.projection_parked (run_id, unit, lane, position, reason)
    values (${runId}, ${unit}, ${laneOf(unit)}, ${position}, ${reason})
    on conflict (run_id, unit) do update set position = excluded.position, reason = excluded.reason`;
}

/**
 * Proves that units stay parked until the transaction ends. The lock of their rows allows another process to move their positions,
 * and not to unpark them.
 *
 * @throws FencedError when one of the units is no longer parked
 */
export async function requireParked(tx: Tx, runId: number, units: readonly string[]): Promise<void> {
  if (units.length === 0) return;
  const parked = await tx`
    select 1 from platform.projection_parked
    where run_id = ${runId} and unit = any(${units}::text[]) order by unit for key share`;
  if (parked.length !== units.length) throw new FencedError('another process unparked a unit that this one skipped');
}

/**
 * Applies a batch unit by unit. Where the commits of a unit fail together, it applies them one by one up to the first that
 * fails.
 *
 * @returns the first failed commit of each unit that has one
 */
export async function applyUnitByUnit(
  tx: Tx,
  projection: Projection,
  schema: string,
  batch: readonly Commit[],
): Promise<Poison[]> {
  const poisons: Poison[] = [];
  for (const commits of Map.groupBy(batch, (commit) => commit.unit).values()) {
    const failure = await tryApply(tx, projection, schema, commits);
    if (failure === undefined) continue;
    for (const commit of commits) {
      const reason = await tryApply(tx, projection, schema, [commit]);
      if (reason === undefined) continue;
      poisons.push({ unit: commit.unit, position: commit.sequence, reason });
      break;
    }
  }
  return poisons;
}

/** Applies all of some commits, or none of them. @returns the reason when they cannot be applied */
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
