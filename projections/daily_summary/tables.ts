/** The tables of `daily_summary`; each function is one statement. Times are milliseconds since 1970, as in the fold. */

import type { Tx } from '../../platform/postgres/connection.ts';
import type { DatedFact, Fact } from './facts.ts';
import { countLockers, type DayRow, type DayState, serviceSteps } from './fold.ts';

/** New facts of a unit. */
export interface UnitFacts {
  readonly unit: string;
  readonly facts: readonly DatedFact[];
}

export interface FoldedUnit {
  readonly unit: string;
  readonly state: DayState;
  readonly rows: readonly DayRow[];
  /** When a fact was late: the moment from which the fold replaced the rows of the unit. */
  readonly refoldedFromMs?: number;
}

export async function createTables(tx: Tx, schema: string): Promise<void> {
  await tx`
    create table ${tx(`${schema}.mark`)} (
      unit text not null,
      at_ms bigint not null,
      tie text collate "C" not null,
      fact json not null,
      reference text,
      reservation text,
      -- False for a payment that another one reports too.
      counts boolean not null,
      primary key (unit, at_ms, tie)
    )`;
  await tx`create index on ${tx(`${schema}.mark`)} (unit, md5(reference)) where reference is not null`;
  await tx`
    create table ${tx(`${schema}.unit`)} (
      unit text primary key,
      standing json not null,
      at_ms bigint not null,
      zone text not null,
      day date not null,
      is_retired boolean not null,
      is_online boolean not null,
      -- The lockers in service from at_ms on: a list of [from_ms, until_ms or null, lockers].
      in_service json not null,
      rented int not null
    ) with (fillfactor = 70)`;
  await tx`
    create table ${tx(`${schema}.day`)} (
      unit text not null,
      day date not null,
      starts_at_ms bigint not null,
      rentals int not null,
      revenue json not null,
      hardware_errors int not null,
      open_failures int not null,
      conflicts int not null,
      rented_ms bigint not null,
      in_service_ms bigint not null,
      online_ms bigint not null,
      life_ms bigint not null,
      opening json not null,
      primary key (unit, day)
    ) with (fillfactor = 70)`;
  await tx`create index on ${tx(`${schema}.day`)} (day)`;
  await tx`create index on ${tx(`${schema}.day`)} (unit, starts_at_ms desc)`;
}

export async function loadDayStates(tx: Tx, schema: string, units: readonly string[]): Promise<Map<string, DayState>> {
  const rows = await tx<{ unit: string; standing: DayState }[]>`
    select unit, standing from ${tx(`${schema}.unit`)} where unit = any(${units}::text[])`;
  return new Map(rows.map(({ unit, standing }) => [unit, standing]));
}

/** Saves facts. A payment is saved as not counting; `countPayments` then decides which payments of one reference count. */
export async function saveFacts(tx: Tx, schema: string, units: readonly UnitFacts[]): Promise<void> {
  const rows = units.flatMap(({ unit, facts }) => facts.map((fact) => ({ unit, ...fact })));
  if (rows.length === 0) return;
  await tx`
    insert into ${tx(`${schema}.mark`)} (unit, at_ms, tie, fact, reference, reservation, counts)
    select unit, at_ms, tie, fact::json, reference, reservation, reference is null from unnest(
      ${rows.map(({ unit }) => unit)}::text[],
      ${rows.map(({ atMs }) => atMs)}::bigint[],
      ${rows.map(({ tie }) => tie)}::text[],
      ${rows.map(({ fact }) => JSON.stringify(fact))}::text[],
      ${rows.map(({ payment }) => payment?.reference ?? null)}::text[],
      ${rows.map(({ payment }) => payment?.reservationId ?? null)}::text[]
    ) as batch(unit, at_ms, tie, fact, reference, reservation)`;
}

/** A payment that `countPayments` has changed. */
export interface RecountedPayment {
  readonly unit: string;
  readonly atMs: number;
  readonly tie: string;
  readonly counts: boolean;
}

/**
 * Decides which payments count among those that share a reference with a new one, because app and terminal may both report one
 * payment. Of the payments with one reference, the first of each reservation counts; where no payment names a reservation, the
 * first of them counts.
 *
 * @returns the payments that count now and did not before, or that counted before and do not now
 */
export async function countPayments(
  tx: Tx,
  schema: string,
  units: readonly UnitFacts[],
): Promise<readonly RecountedPayment[]> {
  const paid = units.flatMap(({ unit, facts }) =>
    facts.flatMap(({ payment }) => (payment === undefined ? [] : [{ unit, reference: payment.reference }])),
  );
  if (paid.length === 0) return [];
  const table = tx(`${schema}.mark`);
  return tx<RecountedPayment[]>`
    with same as (
      select m.unit, m.at_ms, m.tie,
        row_number() over (partition by m.unit, m.reference, m.reservation order by m.at_ms, m.tie) = 1
          and (m.reservation is not null
            or not bool_or(m.reservation is not null) over (partition by m.unit, m.reference)) as counts
      from ${table} m
      where exists (
        select from unnest(
          ${paid.map(({ unit }) => unit)}::text[], ${paid.map(({ reference }) => reference)}::text[]
        ) as paid(unit, reference)
        where paid.unit = m.unit and md5(paid.reference) = md5(m.reference) and paid.reference = m.reference)
    )
    update ${table} m set counts = same.counts from same
    where m.unit = same.unit and m.at_ms = same.at_ms and m.tie = same.tie and m.counts <> same.counts
    returning m.unit, m.at_ms as "atMs", m.tie, m.counts`;
}

/** Loads for each unit the opening of the day in which a moment lies. */
export async function loadOpenings(
  tx: Tx,
  schema: string,
  late: readonly { readonly unit: string; readonly fromMs: number }[],
): Promise<Map<string, DayState>> {
  const rows = await tx<{ unit: string; opening: DayState }[]>`
    select late.unit, d.opening from unnest(
      ${late.map(({ unit }) => unit)}::text[], ${late.map(({ fromMs }) => fromMs)}::bigint[]
    ) as late(unit, from_ms)
    cross join lateral (
      select opening from ${tx(`${schema}.day`)} d
      where d.unit = late.unit and d.starts_at_ms <= late.from_ms order by d.starts_at_ms desc limit 1) as d`;
  return new Map(rows.map(({ unit, opening }) => [unit, opening]));
}

/** Loads for each unit the facts that count since a moment, in order. */
export async function loadFacts(
  tx: Tx,
  schema: string,
  late: readonly { readonly unit: string; readonly fromMs: number }[],
): Promise<Map<string, DatedFact[]>> {
  const rows = await tx<{ unit: string; atMs: number; tie: string; fact: Fact }[]>`
    select m.unit, m.at_ms as "atMs", m.tie, m.fact from ${tx(`${schema}.mark`)} m
    join unnest(${late.map(({ unit }) => unit)}::text[], ${late.map(({ fromMs }) => fromMs)}::bigint[])
      as late(unit, from_ms) on late.unit = m.unit and m.at_ms >= late.from_ms
    where m.counts order by m.unit, m.at_ms, m.tie`;
  return Map.groupBy(rows, ({ unit }) => unit);
}

export async function saveDays(tx: Tx, schema: string, units: readonly FoldedUnit[]): Promise<void> {
  const table = tx(`${schema}.day`);
  const days = units.flatMap(({ unit, rows }) => rows.map((row) => ({ unit, ...row })));
  const refolded = units.flatMap(({ unit, refoldedFromMs }) =>
    refoldedFromMs === undefined ? [] : [{ unit, refoldedFromMs }],
  );
  if (refolded.length > 0) {
    // A late change of the time zone gives days other dates: rows with the old dates must go.
    await tx`
      delete from ${table} d using unnest(
        ${refolded.map(({ unit }) => unit)}::text[], ${refolded.map(({ refoldedFromMs }) => refoldedFromMs)}::bigint[]
      ) as refolded(unit, from_ms)
      where d.unit = refolded.unit and d.starts_at_ms >= refolded.from_ms and (d.unit, d.day) not in (
        select * from unnest(${days.map(({ unit }) => unit)}::text[], ${days.map(({ day }) => day)}::text[]::date[]))`;
  }
  const figure = (of: (row: DayRow['figures']) => number) => days.map(({ figures }) => of(figures));
  await tx`
    insert into ${table} as d (unit, day, starts_at_ms, rentals, revenue, hardware_errors, open_failures, conflicts,
      rented_ms, in_service_ms, online_ms, life_ms, opening)
    select unit, day::date, starts_at_ms, rentals, revenue::json, hardware_errors, open_failures, conflicts,
      rented_ms, in_service_ms, online_ms, life_ms, coalesce(opening::json, (
        select known.opening from ${table} known where known.unit = batch.unit and known.day = batch.day::date))
    from unnest(
      ${days.map(({ unit }) => unit)}::text[],
      ${days.map(({ day }) => day)}::text[],
      ${days.map(({ startsAtMs }) => startsAtMs)}::bigint[],
      ${figure(({ rentals }) => rentals)}::int[],
      ${days.map(({ figures }) => JSON.stringify(figures.revenue))}::text[],
      ${figure(({ hardwareErrors }) => hardwareErrors)}::int[],
      ${figure(({ openFailures }) => openFailures)}::int[],
      ${figure(({ conflicts }) => conflicts)}::int[],
      ${figure(({ rentedMs }) => rentedMs)}::bigint[],
      ${figure(({ inServiceMs }) => inServiceMs)}::bigint[],
      ${figure(({ onlineMs }) => onlineMs)}::bigint[],
      ${figure(({ lifeMs }) => lifeMs)}::bigint[],
      ${days.map(({ opening }) => (opening === undefined ? null : JSON.stringify(opening)))}::text[]
    ) as batch(unit, day, starts_at_ms, rentals, revenue, hardware_errors, open_failures, conflicts,
      rented_ms, in_service_ms, online_ms, life_ms, opening)
    on conflict (unit, day) do update set starts_at_ms = excluded.starts_at_ms,
      rentals = excluded.rentals, revenue = excluded.revenue, hardware_errors = excluded.hardware_errors,
      open_failures = excluded.open_failures, conflicts = excluded.conflicts, rented_ms = excluded.rented_ms,
      in_service_ms = excluded.in_service_ms, online_ms = excluded.online_ms, life_ms = excluded.life_ms,
      opening = excluded.opening`;
}

export async function saveDayStates(tx: Tx, schema: string, units: readonly FoldedUnit[]): Promise<void> {
  const column = <T>(value: (state: DayState) => T): T[] => units.map(({ state }) => value(state));
  await tx`
    insert into ${tx(`${schema}.unit`)}
      (unit, standing, at_ms, zone, day, is_retired, is_online, in_service, rented)
    select unit, standing::json, at_ms, zone, day::date, is_retired, is_online, in_service::json, rented from unnest(
      ${units.map(({ unit }) => unit)}::text[],
      ${column((state) => JSON.stringify(state))}::text[],
      ${column(({ atMs }) => atMs)}::bigint[],
      ${column(({ zone }) => zone)}::text[],
      ${column(({ day }) => day)}::text[],
      ${column(({ isRetired }) => isRetired)}::boolean[],
      ${column(({ isOnline }) => isOnline)}::boolean[],
      ${column((state) => JSON.stringify(serviceSteps(state)))}::text[],
      ${column((state) => countLockers(state).rented)}::int[]
    ) as batch(unit, standing, at_ms, zone, day, is_retired, is_online, in_service, rented)
    on conflict (unit) do update set standing = excluded.standing, at_ms = excluded.at_ms, zone = excluded.zone,
      day = excluded.day, is_retired = excluded.is_retired, is_online = excluded.is_online,
      in_service = excluded.in_service, rented = excluded.rented`;
}

/** Deletes the facts of units before a moment: no late fact can be folded before them any more. */
export async function deleteOldFacts(
  tx: Tx,
  schema: string,
  units: readonly { readonly unit: string; readonly beforeMs: number }[],
): Promise<void> {
  if (units.length === 0) return;
  await tx`
    delete from ${tx(`${schema}.mark`)} m using unnest(
      ${units.map(({ unit }) => unit)}::text[], ${units.map(({ beforeMs }) => beforeMs)}::bigint[]
    ) as old(unit, before_ms)
    where m.unit = old.unit and m.at_ms < old.before_ms`;
}
