/** Lists parked units, and requests their retry. */

import type { Sql } from '../../../platform/postgres/connection.ts';
import { decodeCursor, type Page, toPage } from '../../../platform/postgres/cursor.ts';

/** Times are RFC 3339. */
export interface ParkedUnit {
  readonly unit: string;
  /** This commit and all later commits of the unit wait. It is the one that could not be applied, or a later one while a retry runs. */
  readonly position: number;
  readonly reason: string;
  readonly since: string;
  /** Number of retries that failed. */
  readonly retries: number;
  /** When a retry was requested that no process has begun yet; else null. */
  readonly retryRequestedAt: string | null;
  /** When the unit is retried by itself, or when another process takes over a retry that runs. */
  readonly nextRetryAt: string;
  /** Why the last retry could not be made, such as a service that was away; null when it was made. */
  readonly retryFault: string | null;
}

interface Row {
  readonly unit: string;
  readonly position: number;
  readonly reason: string;
  readonly since: Date;
  readonly retries: number;
  readonly retry_requested_at: Date | null;
  readonly next_retry_at: Date;
  readonly fault: string | null;
}

/** Reads a page of the units that are parked in the run that serves, ordered by name. @throws CursorError */
export async function parkedUnits(
  sql: Sql,
  projection: string,
  { limit, cursor, count = false }: { readonly limit: number; readonly cursor?: string; readonly count?: boolean },
): Promise<Page<ParkedUnit>> {
  const [after] = cursor === undefined ? [''] : decodeCursor(cursor, ['text']);
  const rows = await sql<Row[]>`
    select ${columns(sql)} ${parkedIn(sql, projection)}
      and p.unit > ${after}
    order by p.unit limit ${limit + 1}`;
  const [counted] = count
    ? await sql<{ total: number }[]>`select count(*)::bigint as total ${parkedIn(sql, projection)}`
    : [];
  return toPage(rows, limit, toParked, ({ unit }) => [unit], counted?.total);
}

/** Reads one parked unit. @returns undefined when the unit is not parked in the run that serves */
export async function parkedUnit(sql: Sql, projection: string, unit: string): Promise<ParkedUnit | undefined> {
  const [row] = await sql<Row[]>`
    select ${columns(sql)} ${parkedIn(sql, projection)}
      and p.unit = ${unit}`;
  return row === undefined ? undefined : toParked(row);
}

/**
 * Requests the retry of a parked unit. The process that fills the lane of the unit retries it within a second, unless it retries other
 * units. A retry that fails is repeated like every other.
 *
 * @returns false when the unit is not parked
 */
export async function requestRetry(sql: Sql, projection: string, unit: string): Promise<boolean> {
  const { count } = await sql`
    update platform.projection_parked p set retry_requested_at = coalesce(p.retry_requested_at, now()), next_retry_at = now()
    from platform.projection_runs r
    where r.id = p.run_id and r.projection = ${projection} and r.status = 'serving' and p.unit = ${unit}`;
  return count > 0;
}

function columns(sql: Sql) {
  return sql.part`
    p.unit, p.position, p.reason, p.since, p.retries, p.retry_requested_at, p.next_retry_at, p.fault`;
}

function parkedIn(sql: Sql, projection: string) {
  return sql.part`
    from platform.projection_parked p join platform.projection_runs r on r.id = p.run_id
    where r.projection = ${projection} and r.status = 'serving'`;
}

function toParked(row: Row): ParkedUnit {
  const { unit, position, reason, since, retries, retry_requested_at, next_retry_at, fault } = row;
  return {
    unit,
    position,
    reason,
    since: since.toISOString(),
    retries,
    retryRequestedAt: retry_requested_at?.toISOString() ?? null,
    nextRetryAt: next_retry_at.toISOString(),
    retryFault: fault,
  };
}
