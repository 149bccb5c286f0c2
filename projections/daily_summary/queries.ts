import type { Sql } from '../../platform/postgres/connection.ts';
import { CursorError, decodeCursor, encodeCursor, type Page } from '../../platform/postgres/cursor.ts';
import type { ReadModels } from '../engine/queries/serving-runs.ts';
import { Calendar, type Day, dayAt, isDay, nextDay } from './calendar.ts';

/** The zone in which each day starts first: no unit can be in a later day. */
const FIRST_ZONE = 'Pacific/Kiritimati';

export interface SummaryQuery {
  /** @default all units of the fleet */
  readonly unit?: string;
  /** Inclusive. @default the first day of which there is a summary */
  readonly from?: Day;
  /** Exclusive. @default the day after the current one */
  readonly until?: Day;
  readonly cursor?: string;
}

/** The summary of a day for one unit, or the sum over all units; the day of each unit is that of its own time zone. */
export interface DaySummary {
  readonly day: Day;
  readonly units: number;
  /** Whether the day has ended for every unit; else the figures count up to now. */
  readonly isOver: boolean;
  readonly rentals: number;
  readonly revenue: readonly { readonly amount: number; readonly currency: string }[];
  readonly rentedMs: number;
  readonly inServiceMs: number;
  readonly onlineMs: number;
  /** The time in which the units were registered and not retired. */
  readonly lifeMs: number;
  readonly hardwareErrors: number;
  readonly openFailures: number;
  readonly conflicts: number;
}

/**
 * Reads a page of days, the earliest first: of `limit` days of the calendar, those on which there were units. A running rental
 * and the connectivity of a unit that is online count up to `nowMs`.
 *
 * @throws CursorError
 */
export async function listDays(
  { sql, servingRuns }: ReadModels,
  { unit, from, until, cursor, limit, nowMs }: SummaryQuery & { readonly limit: number; readonly nowMs: number },
): Promise<Page<DaySummary>> {
  const { schema } = await servingRuns.find('daily_summary');
  const ofUnit = unit === undefined ? sql.part`` : sql.part`and unit = ${unit}`;
  const start = cursor === undefined ? await firstDay(sql, schema, from, unit) : dayOfCursor(cursor);
  const last = nextDay(dayAt(nowMs, FIRST_ZONE));
  const end = until === undefined || until > last ? last : until;
  if (start === undefined || start >= end) return { items: [], nextCursor: null };
  const days = daysFrom(start, end, limit);
  const next = nextDay(days.at(-1) ?? start);
  const [figures, revenue] = await Promise.all([
    readFigures(sql, schema, days, { ofUnit, nowMs }),
    readRevenue(sql, schema, days, { ofUnit }),
  ]);
  return {
    items: figures.map((row) => ({ ...row, revenue: revenue.get(row.day) ?? [] })),
    nextCursor: next < end ? encodeCursor([next]) : null,
  };
}

/** Whether a text is a day that exists. */
export function isSummaryDay(text: string): boolean {
  return isDay(text);
}

function dayOfCursor(cursor: string): Day {
  const [day] = decodeCursor(cursor, ['text']);
  if (!isDay(day)) throw new CursorError('The cursor is not one of this list.');
  return day;
}

/** The first day from `from` on with a summary. */
async function firstDay(sql: Sql, schema: string, from: Day | undefined, unit: string | undefined) {
  const [row] = await sql<{ day: Day | null }[]>`
    select to_char(min(day), 'YYYY-MM-DD') as day from ${sql(`${schema}.day`)}
    where day >= ${from ?? '-infinity'}::text::date ${unit === undefined ? sql.part`` : sql.part`and unit = ${unit}`}`;
  // A unit without a later row has stayed as it was since its last row, so its days from `from` on have figures too.
  return row?.day ?? from;
}

function daysFrom(start: Day, end: Day, limit: number): Day[] {
  const days: Day[] = [];
  for (let day = start; day < end && days.length < limit; day = nextDay(day)) days.push(day);
  return days;
}

type Fragment = ReturnType<Sql['part']>;

/** Reads the figures of days. The rows end at the last fact of a unit; the query adds the time since then. */
async function readFigures(
  sql: Sql,
  schema: string,
  days: readonly Day[],
  { ofUnit, nowMs }: { readonly ofUnit: Fragment; readonly nowMs: number },
): Promise<Omit<DaySummary, 'revenue'>[]> {
  const calendar = new Calendar();
  const zones = await sql<{ zone: string }[]>`
    select distinct zone from ${sql(`${schema}.unit`)} where true ${ofUnit}`;
  const calendarDays = zones.flatMap(({ zone }) =>
    days.map((day) => ({
      zone,
      day,
      begins: calendar.startOfDay(day, zone),
      ends: calendar.startOfDay(nextDay(day), zone),
    })),
  );
  const now = sql.part`${nowMs}::bigint`;
  return sql<Omit<DaySummary, 'revenue'>[]>`
    with calendar as (
      select zone, day::date as day, begins, ends from unnest(
        ${calendarDays.map(({ zone }) => zone)}::text[], ${calendarDays.map(({ day }) => day)}::text[],
        ${calendarDays.map(({ begins }) => begins)}::bigint[], ${calendarDays.map(({ ends }) => ends)}::bigint[]
      ) as c(zone, day, begins, ends)
    ), units as (select * from ${sql(`${schema}.unit`)} where true ${ofUnit}),
    figures as (
      select d.day, d.unit, c.ends <= ${now} as is_over, rentals, hardware_errors, open_failures, conflicts,
        rented_ms, in_service_ms, online_ms, life_ms
      from ${sql(`${schema}.day`)} d join units u using (unit) join calendar c on c.zone = u.zone and c.day = d.day
      union all
      select greatest(c.day, u.day), u.unit, c.ends <= ${now}, 0, 0, 0, 0,
        u.rented * ms, in_service_ms, u.is_online::int * ms, ms
      from units u join calendar c on c.zone = u.zone and c.ends > u.at_ms and c.begins < ${now},
        lateral (select greatest(0, least(c.ends, ${now}) - greatest(c.begins, u.at_ms)) as ms) as since,
        lateral (
          select coalesce(sum((step ->> 2)::bigint * greatest(0,
            least(c.ends, ${now}, (step ->> 1)::bigint) - greatest(c.begins, (step ->> 0)::bigint))), 0)::bigint as in_service_ms
          from json_array_elements(u.in_service) as step) as service
      where not u.is_retired and u.at_ms < ${now}
    )
    select to_char(day, 'YYYY-MM-DD') as day, count(distinct unit) as units, bool_and(is_over) as "isOver",
      sum(rentals)::bigint as rentals, sum(rented_ms)::bigint as "rentedMs",
      sum(in_service_ms)::bigint as "inServiceMs", sum(online_ms)::bigint as "onlineMs", sum(life_ms)::bigint as "lifeMs",
      sum(hardware_errors)::bigint as "hardwareErrors", sum(open_failures)::bigint as "openFailures",
      sum(conflicts)::bigint as conflicts
    from figures group by figures.day order by figures.day`;
}

async function readRevenue(
  sql: Sql,
  schema: string,
  days: readonly Day[],
  { ofUnit }: { readonly ofUnit: Fragment },
): Promise<Map<Day, { readonly amount: number; readonly currency: string }[]>> {
  const rows = await sql<{ day: Day; currency: string; amount: number }[]>`
    select to_char(day, 'YYYY-MM-DD') as day, paid.key as currency, sum(paid.value::numeric)::float8 as amount
    from ${sql(`${schema}.day`)}, json_each_text(revenue) as paid
    where day between ${days[0] ?? null}::text::date and ${days.at(-1) ?? null}::text::date ${ofUnit}
    group by day, paid.key order by paid.key`;
  const byDay = Map.groupBy(rows, ({ day }) => day);
  return new Map([...byDay].map(([day, paid]) => [day, paid.map(({ amount, currency }) => ({ amount, currency }))]));
}
