/** Which parked units are due for a retry, in Postgres: a process claims one unit at a time, for a limited time. */

import type { Fragment, Sql } from '../../../platform/postgres/connection.ts';

/** A unit that this process has claimed for a retry. */
export interface ClaimedUnit {
  readonly unit: string;
  /** From which on the commits of the unit wait. */
  readonly position: number;
  /** Retries of the unit that failed. */
  readonly retries: number;
  /** Retries in a row that could not be made. */
  readonly faults: number;
}

/**
 * Claims a unit that is due: one that an operator requested first, then the one that is due for longest. Another process may take it
 * over after `leaseMs`.
 */
export function claimDue(
  sql: Sql,
  runId: number,
  lanes: readonly number[],
  leaseMs: number,
): Promise<ClaimedUnit | undefined> {
  const selected = sql.part`
    select unit from platform.projection_parked
    where run_id = ${runId} and lane = any(${lanes}::smallint[]) and next_retry_at <= now()
    order by retry_requested_at nulls last, next_retry_at, unit
    limit 1 for no key update skip locked`;
  return claim(sql, runId, selected, leaseMs);
}

/** Claims the next parked unit by name, due or not; also one that another process has claimed. @param after the name of the unit before */
export function claimNext(
  sql: Sql,
  runId: number,
  lanes: readonly number[],
  { after, leaseMs }: { readonly after: string; readonly leaseMs: number },
): Promise<ClaimedUnit | undefined> {
  const selected = sql.part`
    select unit from platform.projection_parked
    where run_id = ${runId} and lane = any(${lanes}::smallint[]) and unit > ${after}
    order by unit limit 1`;
  return claim(sql, runId, selected, leaseMs);
}

async function claim(sql: Sql, runId: number, selected: Fragment, leaseMs: number): Promise<ClaimedUnit | undefined> {
  const [claimed] = await sql<ClaimedUnit[]>`
    update platform.projection_parked p
    set retry_requested_at = null, next_retry_at = now() + ${inMs(leaseMs)}::interval
    where p.run_id = ${runId} and p.unit = (${selected})
    returning unit, position, retries, faults`;
  return claimed;
}

/** Prolongs a claim. */
export async function prolongClaim(sql: Sql, runId: number, unit: string, leaseMs: number): Promise<void> {
  await sql`
    update platform.projection_parked set next_retry_at = now() + ${inMs(leaseMs)}::interval, faults = 0, fault = null
    where run_id = ${runId} and unit = ${unit} and retry_requested_at is null`;
}

/** Ends a claim: the unit is due at once, after those that are due for longer. */
export async function yieldClaim(sql: Sql, runId: number, unit: string): Promise<void> {
  await sql`
    update platform.projection_parked set next_retry_at = now() where run_id = ${runId} and unit = ${unit}`;
}

/** Ends a claim after a retry that failed by the fault of an event. A request that came meanwhile makes the unit due at once. */
export async function recordFailure(sql: Sql, runId: number, unit: string, retryInMs: number): Promise<void> {
  await sql`
    update platform.projection_parked
    set retries = retries + 1, faults = 0, fault = null,
      next_retry_at = case when retry_requested_at is null then now() + ${inMs(retryInMs)}::interval else now() end
    where run_id = ${runId} and unit = ${unit}`;
}

/** Ends a claim after a retry that could not be made. */
export async function recordFault(
  sql: Sql,
  runId: number,
  unit: string,
  { fault, retryInMs }: { readonly fault: string; readonly retryInMs: number },
): Promise<void> {
  await sql`
    update platform.projection_parked
    set faults = faults + 1, fault = ${fault}, next_retry_at = now() + ${inMs(retryInMs)}::interval
    where run_id = ${runId} and unit = ${unit}`;
}

function inMs(ms: number): string {
  return `${ms} ms`;
}
