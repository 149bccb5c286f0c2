/** Units that wait because of an event that could not be applied: who they are, and asking for another try. */

import type { Sql } from '../../../platform/postgres/connection.ts';
import { decodeCursor, type Page, toPage } from '../../../platform/postgres/cursor.ts';

/** Times are RFC 3339. */
export interface ParkedUnit {
  readonly unit: string;
  /** The commit that could not be applied; it and all later ones of the unit wait. */
  readonly position: number;
  readonly reason: string;
  readonly since: string;
  /** How often it was tried again in vain. */
  readonly retries: number;
  /** When a try was asked for that has not been made yet. */
  readonly retryRequestedAt: string | null;
}

interface Row {
  readonly unit: string;
  readonly position: number;
  readonly reason: string;
  readonly since: Date;
  readonly retries: number;
  readonly retry_requested_at: Date | null;
}

/** A page of the units that are parked in the run that serves, by name. @throws CursorError */
export async function parkedUnits(
  sql: Sql,
  projection: string,
  { limit, cursor, count = false }: { readonly limit: number; readonly cursor?: string; readonly count?: boolean },
): Promise<Page<ParkedUnit>> {
  const [after] = cursor === undefined ? [''] : decodeCursor(cursor, ['text']);
  const rows = await sql<Row[]>`
    select p.unit, p.position, p.reason, p.since, p.retries, p.retry_requested_at ${parkedIn(sql, projection)}
      and p.unit > ${after}
    order by p.unit limit ${limit + 1}`;
  const [counted] = count
    ? await sql<{ total: number }[]>`select count(*)::bigint as total ${parkedIn(sql, projection)}`
    : [];
  return toPage(rows, limit, toParked, ({ unit }) => [unit], counted?.total);
}

/** One parked unit; `undefined` when it is not parked. */
export async function parkedUnit(sql: Sql, projection: string, unit: string): Promise<ParkedUnit | undefined> {
  const [row] = await sql<Row[]>`
    select p.unit, p.position, p.reason, p.since, p.retries, p.retry_requested_at ${parkedIn(sql, projection)}
      and p.unit = ${unit}`;
  return row === undefined ? undefined : toParked(row);
}

/** Asks for another try, which whoever fills the unit's lane makes within moments. @returns whether the unit is parked */
export async function requestRetry(sql: Sql, projection: string, unit: string): Promise<boolean> {
  const { count } = await sql`
    update platform.projection_parked p set retry_requested_at = coalesce(p.retry_requested_at, now())
    from platform.projection_runs r
    where r.id = p.run_id and r.projection = ${projection} and r.status = 'serving' and p.unit = ${unit}`;
  return count > 0;
}

function parkedIn(sql: Sql, projection: string) {
  return sql.part`
    from platform.projection_parked p join platform.projection_runs r on r.id = p.run_id
    where r.projection = ${projection} and r.status = 'serving'`;
}

function toParked({ unit, position, reason, since, retries, retry_requested_at }: Row): ParkedUnit {
  return {
    unit,
    position,
    reason,
    since: since.toISOString(),
    retries,
    retryRequestedAt: retry_requested_at?.toISOString() ?? null,
  };
}
