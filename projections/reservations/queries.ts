import { OVERDUE_ALLOWANCE_MS } from '../../domain/booking/allocation.ts';
import { priceOf } from '../../domain/booking/price.ts';
import type { Reservation } from '../../domain/booking/reservation.ts';
import { closedEndOf, type OpeningRules } from '../../domain/configuration/opening-hours.ts';
import type { ConfigurationValues } from '../../domain/configuration-values.ts';
import { type LockerSize, type Money, toInstant, toMs } from '../../domain/vocabulary.ts';
import type { Fragment, Sql } from '../../platform/postgres/connection.ts';
import { decodeCursor, type Page, toPage } from '../../platform/postgres/cursor.ts';
import type { ReadModels } from '../engine/queries/serving-runs.ts';

const METRES_PER_DEGREE = 111_320;
const EARTH_RADIUS_M = 6_371_000;
const MS_PER_MINUTE = 60_000;

/** A reservation with the name of its unit, and the sequence of the unit's bookings that changed it last. */
export type ShownReservation = Reservation & { readonly unit: string; readonly bookingSequence: number };

interface Row {
  readonly id: string;
  readonly unit: string;
  readonly held_position: number;
  readonly changed_position: number;
  readonly reservation: Reservation;
}

/** Reads a reservation of a customer. @returns undefined when it does not exist or belongs to another customer */
export async function getReservation(
  { sql, servingRuns }: ReadModels,
  { id, customer }: { readonly id: string; readonly customer: string },
): Promise<ShownReservation | undefined> {
  const { schema } = await servingRuns.find('reservations');
  const [row] = await sql<Row[]>`
    select id, unit, held_position, changed_position, reservation from ${sql(`${schema}.reservation`)}
    where id = ${id} and customer = ${customer}`;
  return row === undefined ? undefined : toShown(row);
}

export interface ReservationFilter {
  readonly customer?: string;
  /** With a customer, their reservations at every unit that had the name; otherwise those at the unit that has it now. */
  readonly unit?: string;
  readonly status?: Reservation['status'];
  /** Only reservations whose period begins then or later, RFC 3339. */
  readonly from?: string;
}

/** Reads a page of reservations, the newest first. @throws CursorError */
export async function listReservations(
  { sql, servingRuns }: ReadModels,
  query: ReservationFilter & { readonly limit: number; readonly cursor?: string; readonly count?: boolean },
): Promise<Page<ShownReservation>> {
  const { limit, cursor, count = false } = query;
  const { schema } = await servingRuns.find('reservations');
  const table = sql(`${schema}.reservation`);
  const [position, id] = cursor === undefined ? [0, ''] : decodeCursor(cursor, ['integer', 'text']);
  const after = cursor === undefined ? sql.part`` : sql.part`and (-held_position, id) > (${-position}::bigint, ${id})`;
  const rows = await sql<Row[]>`
    select id, unit, held_position, changed_position, reservation from ${table}
    where ${reservationCondition(sql, schema, query)} ${after}
    order by held_position desc, id limit ${limit + 1}`;
  const [counted] = count
    ? await sql<
        { total: number }[]
      >`select count(*)::bigint as total from ${table} where ${reservationCondition(sql, schema, query)}`
    : [];
  return toPage(rows, limit, toShown, (row) => [row.held_position, row.id], counted?.total);
}

function reservationCondition(sql: Sql, schema: string, { customer, unit, status, from }: ReservationFilter) {
  const none = sql.part``;
  const isPresent = sql.part`held_position > coalesce(
    (select g.position from ${sql(`${schema}.registration`)} g where g.unit = ${unit ?? ''}), 0)`;
  return sql.part`true
    ${customer === undefined ? none : sql.part`and customer = ${customer}`}
    ${unit === undefined ? none : sql.part`and unit = ${unit}`}
    ${unit === undefined || customer !== undefined ? none : sql.part`and ${isPresent}`}
    ${status === undefined ? none : sql.part`and status = ${status}`}
    ${from === undefined ? none : sql.part`and from_at >= ${from}::timestamptz`}`;
}

export interface Availability {
  /** When the answer was computed, RFC 3339. */
  readonly asOf: string;
  readonly items: readonly {
    readonly unit: string;
    readonly locker: string;
    readonly size: LockerSize;
    readonly price: Money;
    /** Who knows the locker to be free, and since when: an online unit itself, or the platform from the last events of the unit. */
    readonly confidence: { readonly source: 'unit' | 'platform'; readonly asOf: string | null };
  }[];
}

interface FreeLocker {
  readonly unit: string;
  readonly locker: string;
  readonly size: LockerSize;
  readonly online: boolean;
  readonly known_at: Date | null;
  readonly last_online_at: Date | null;
  readonly configuration: ConfigurationValues;
}

/**
 * Finds lockers that are free for a whole period, at one unit or around a place (the nearest units first), at most `limit`.
 * The query repeats the rules of the domain's `freeLockers` in SQL. Lockers that may not be usable come last at their unit. Closed units have none. The configuration of the unit limits the length of a
 * reservation and lists the sizes that have a price.
 */
export async function findFreeLockers(
  { sql, servingRuns }: ReadModels,
  query: {
    readonly unit?: string;
    readonly near?: { readonly lat: number; readonly lon: number; readonly radiusM: number };
    readonly from: string;
    readonly until: string;
    readonly size?: LockerSize;
    readonly nowMs: number;
    readonly limit: number;
  },
): Promise<Availability> {
  const { from, until, nowMs, limit } = query;
  const { schema } = await servingRuns.find('reservations');
  const now = new Date(nowMs);
  const overdueUntil = new Date(nowMs + OVERDUE_ALLOWANCE_MS);
  const overlaps = (start: Fragment, end: Fragment) =>
    sql.part`${start} < ${until}::timestamptz and ${from}::timestamptz < ${end}`;
  // An overdue rental blocks the locker for OVERDUE_ALLOWANCE_MS from now on.
  const expectedEnd = (planned: Fragment) =>
    sql.part`case when ${planned} > ${now} then ${planned} else ${overdueUntil} end`;
  const place = sql(`${schema}.place`);
  const isLongEnough = sql.part`${(toMs(until) - toMs(from)) / MS_PER_MINUTE}::double precision
    between p.minimum_minutes and p.maximum_minutes`;
  const rules = await sql<{ time_zone: string; opening_rules: string }[]>`
    select distinct p.time_zone, p.opening_rules from ${place} p
    where p.in_use and ${placeCondition(sql, query)} and ${isLongEnough}`;
  const period = { fromMs: toMs(from), untilMs: toMs(until) };
  const open = rules.filter(
    ({ time_zone, opening_rules }) =>
      closedEndOf(JSON.parse(opening_rules) as OpeningRules, time_zone, period) === undefined,
  );
  if (open.length === 0) return { asOf: toInstant(nowMs), items: [] };
  const isOverdue = sql.part`l.rental_until is not null and l.rental_until <= ${now}`;
  const isInService = sql.part`(l.out_of_service_from is null
      or not (${overlaps(sql.part`l.out_of_service_from`, sql.part`coalesce(l.out_of_service_until, 'infinity')`)}))
    and not exists (
      select from json_array_elements(p.maintenance) m
      where ${overlaps(sql.part`(m ->> 'from')::timestamptz`, sql.part`(m ->> 'until')::timestamptz`)})`;
  const rows = await sql<FreeLocker[]>`
    select l.unit, l.id as locker, l.size, p.online, p.known_at, t.last_online_at, p.configuration
    from ${place} p
    join ${sql(`${schema}.locker`)} l on l.unit = p.unit
    left join platform.unit_telemetry t on t.unit = p.unit
    where p.in_use and ${isInService} and ${placeCondition(sql, query)}
      and ${isLongEnough}
      and (p.time_zone, p.opening_rules) in (select * from unnest(
        ${open.map(({ time_zone }) => time_zone)}::text[], ${open.map(({ opening_rules }) => opening_rules)}::text[]))
      and (${from}::timestamptz >= ${overdueUntil} or not (l.doubted or ${isOverdue}))
      and exists (select from json_array_elements(p.configuration -> 'prices') price where price ->> 'size' = l.size)
      ${query.size === undefined ? sql.part`` : sql.part`and l.size = ${query.size}`}
      and (l.rental_from is null or not (${overlaps(sql.part`l.rental_from`, expectedEnd(sql.part`l.rental_until`))}))
      and not exists (
        select from ${sql(`${schema}.reservation`)} r
        where r.unit = l.unit and r.locker = l.id and r.status in ('held', 'confirmed', 'active')
          and (r.status <> 'held' or r.hold_expires_at > ${now})
          and ${overlaps(
            sql.part`r.from_at`,
            sql.part`case when r.status = 'active' then ${expectedEnd(sql.part`r.until_at`)} else r.until_at end`,
          )})
    order by ${distanceM(sql, query.near)}, l.unit, (l.doubted or ${isOverdue}), l.ordinal
    limit ${limit}`;
  return { asOf: toInstant(nowMs), items: rows.flatMap((row) => offer(row, from, until)) };
}

function placeCondition(sql: Sql, query: { unit?: string; near?: { lat: number; lon: number; radiusM: number } }) {
  if (query.unit !== undefined) return sql.part`p.unit = ${query.unit}`;
  if (query.near === undefined) return sql.part`true`;
  const { lat, lon, radiusM } = query.near;
  const latSpan = radiusM / METRES_PER_DEGREE;
  const lonSpan = Math.min(180, latSpan / Math.max(0.01, Math.cos((lat * Math.PI) / 180)));
  // The box lets the index narrow the rows; the exact distance decides. The box wraps around at the date line.
  return sql.part`p.lat between ${lat - latSpan} and ${lat + latSpan}
    and (p.lon between ${lon - lonSpan} and ${lon + lonSpan}
      or p.lon - 360 between ${lon - lonSpan} and ${lon + lonSpan}
      or p.lon + 360 between ${lon - lonSpan} and ${lon + lonSpan})
    and ${distanceM(sql, query.near)} <= ${radiusM}`;
}

/** Great-circle distance in metres. */
function distanceM(sql: Sql, near: { readonly lat: number; readonly lon: number } | undefined) {
  if (near === undefined) return sql.part`0::double precision`;
  const { lat, lon } = near;
  return sql.part`(2 * ${EARTH_RADIUS_M}::double precision * asin(least(1, sqrt(
    power(sin(radians(p.lat - ${lat}::double precision) / 2), 2)
    + cos(radians(${lat}::double precision)) * cos(radians(p.lat))
      * power(sin(radians(p.lon - ${lon}::double precision) / 2), 2)))))`;
}

/** @returns the free locker with its price; nothing when its size has no price */
function offer(row: FreeLocker, from: string, until: string): Availability['items'] {
  const { configuration, size, unit, locker, online } = row;
  const price = priceOf(configuration, size, toMs(from), toMs(until));
  if (price === undefined) return [];
  const asOf = (online ? (row.last_online_at ?? row.known_at) : row.known_at)?.toISOString() ?? null;
  return [{ unit, locker, size, price, confidence: { source: online ? 'unit' : 'platform', asOf } }];
}

function toShown({ unit, reservation, changed_position: bookingSequence }: Row): ShownReservation {
  return { ...reservation, unit, bookingSequence };
}
