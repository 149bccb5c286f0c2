/** `reservations`: the reservations of each customer, and the places and lockers from which free lockers are found. */

import { isDoubted } from '../../domain/booking/allocation.ts';
import { evolveReservation, type Reservation } from '../../domain/booking/reservation.ts';
import { requireConfigured } from '../../domain/configuration/configuration.ts';
import type { OpeningRules } from '../../domain/configuration/opening-hours.ts';
import type { ConfigurationValues } from '../../domain/configuration-values.ts';
import type { DeviceLocker } from '../../domain/device/device.ts';
import { upcast } from '../../domain/events/catalogue.ts';
import type { Aggregate } from '../../domain/events/cloud-event.ts';
import type { RegisteredLocker, RegisteredUnit } from '../../domain/registry/registry.ts';
import type { UnitState } from '../../domain/unit/unit.ts';
import { toInstant, toMs } from '../../domain/vocabulary.ts';
import { chunksOf } from '../../platform/batching/chunks-of.ts';
import type { Sql, Tx } from '../../platform/postgres/connection.ts';
import { WriteBehindRows } from '../engine/fill/write-behind-rows.ts';
import type { CommitBatch, Projection } from '../engine/projection.ts';
import { EARLIEST_STORABLE_MS } from '../engine/storable-time.ts';
import { reservationBytes } from '../unit-states/state-size.ts';
import type { FoldedUnit } from '../unit-states/state-table.ts';
import { UnitStates, versionWithFold, withoutUses } from '../unit-states/unit-states.ts';
import { createRegistrationTable, registrationsIn, saveRegistrations } from './registrations.ts';

/** The subjects that change a place: its location, its configuration, its connectivity, and the rentals in its lockers. */
const PLACE_AGGREGATES: ReadonlySet<Aggregate> = new Set(['registry', 'config', 'connectivity', 'device']);
const MIB = 1024 * 1024;
/** Bounds of a fold: reservations that stay in memory, and reservations that wait to be written. JSON bytes. */
const MAX_CLEAN_BYTES = 16 * MIB;
const MAX_DIRTY_BYTES = 16 * MIB;
const MAX_RESERVATIONS_PER_WRITE = 1_000;

export function createReservations(): Projection {
  const unitStates = new UnitStates({ aggregates: PLACE_AGGREGATES, startsAtRegistration: true, trim: withoutUses });
  return {
    name: 'reservations',
    version: versionWithFold(7),

    async createTables(tx, schema) {
      await createReservationTable(tx, `${schema}.reservation`);
      await createRegistrationTable(tx, `${schema}.registration`);
      await unitStates.createTable(tx, schema);
      await createPlaceTables(tx, schema);
    },

    async apply(tx, schema, commits) {
      await applyBookings(tx, `${schema}.reservation`, commits);
      await saveRegistrations(tx, `${schema}.registration`, registrationsIn(commits));
      await applyPlaces(tx, schema, await unitStates.fold(tx, schema, commits));
    },

    openFold(schema, isFresh) {
      const table = `${schema}.reservation`;
      const rows = reservationRows(MAX_CLEAN_BYTES, isFresh);
      let registrations = new Map<string, number>();
      const places = unitStates.openFold(schema, isFresh, (tx, folded) => applyPlaces(tx, schema, folded));
      return {
        async add(sql, commits) {
          await foldBookings(sql, table, commits, rows);
          for (const [unit, position] of registrationsIn(commits)) registrations.set(unit, position);
          await places.add(sql, commits);
        },
        get isFull() {
          return places.isFull || rows.dirtyBytes >= MAX_DIRTY_BYTES;
        },
        drain() {
          const changed = rows.drain();
          const registered = registrations;
          registrations = new Map();
          const writePlaces = places.drain();
          return async (tx) => {
            await saveReservations(tx, table, changed);
            await saveRegistrations(tx, `${schema}.registration`, registered);
            await writePlaces(tx);
          };
        },
      };
    },
  };
}

async function createReservationTable(tx: Tx, name: string): Promise<void> {
  const table = tx(name);
  await tx`
    create table ${table} (
      id text primary key,
      unit text not null,
      customer text not null,
      locker text not null,
      status text not null,
      from_at timestamptz not null,
      until_at timestamptz not null,
      hold_expires_at timestamptz not null,
      held_position bigint not null,
      changed_position bigint not null,
      reservation json not null
    )`;
  await tx`create index on ${table} (customer, held_position desc, id)`;
  await tx`create index on ${table} (unit, held_position desc, id)`;
  await tx`create index on ${table} (held_position desc, id)`;
  await tx`create index on ${table} (unit, locker) where status in ('held', 'confirmed', 'active')`;
}

async function createPlaceTables(tx: Tx, schema: string): Promise<void> {
  const place = tx(`${schema}.place`);
  await tx`
    create table ${place} (
      unit text primary key,
      lat double precision not null,
      lon double precision not null,
      in_use boolean not null,
      online boolean not null default false,
      known_at timestamptz,
      minimum_minutes int not null,
      maximum_minutes int not null,
      time_zone text not null,
      -- The opening hours as JSON: places with the same text and time zone are open at the same times.
      opening_rules text not null,
      configuration json not null,
      maintenance json not null
    ) with (fillfactor = 70)`;
  await tx`create index on ${place} (lat, lon) where in_use`;
  await tx`
    create table ${tx(`${schema}.locker`)} (
      unit text not null,
      id text not null,
      ordinal int not null,
      size text not null,
      out_of_service_from timestamptz,
      out_of_service_until timestamptz,
      rental_from timestamptz,
      rental_until timestamptz,
      doubted boolean not null default false,
      primary key (unit, id)
    )`;
}

interface ReservationRow {
  readonly reservation: Reservation;
  readonly unit: string;
  /** Position of the commit that held the reservation; it orders the reservations of a customer. */
  readonly heldPosition: number;
  /** Position of the last commit that changed the reservation; its offline token states it. */
  readonly changedPosition: number;
}

function reservationRows(maxCleanBytes: number, isFresh: boolean): WriteBehindRows<ReservationRow> {
  return new WriteBehindRows({ bytesOf: ({ reservation }) => reservationBytes(reservation), maxCleanBytes, isFresh });
}

async function applyBookings(tx: Tx, table: string, commits: CommitBatch): Promise<void> {
  const rows = reservationRows(0, false);
  await foldBookings(tx, table, commits, rows);
  await saveReservations(tx, table, rows.drain());
}

/** Folds the events of each reservation into its row, with the fold that decisions use too. */
async function foldBookings(
  sql: Sql,
  table: string,
  commits: CommitBatch,
  rows: WriteBehindRows<ReservationRow>,
): Promise<void> {
  const events = commits
    .filter(({ aggregate }) => aggregate === 'booking')
    .flatMap(({ unit, sequence, events }) =>
      events.flatMap((event) => {
        const known = upcast(event);
        const id = known !== undefined && 'reservationId' in known.data ? known.data.reservationId : undefined;
        return known === undefined || id === undefined ? [] : [{ unit, sequence, id, event: known }];
      }),
    );
  const missing = rows.missing(events.map(({ id }) => id));
  for (const { id, ...row } of await readReservations(sql, table, missing)) rows.putClean(id, row);
  for (const { unit, sequence, id, event } of events) {
    const before = rows.get(id);
    const reservation = evolveReservation(before?.reservation, event);
    if (reservation === undefined) continue;
    rows.putDirty(id, { unit, reservation, heldPosition: before?.heldPosition ?? sequence, changedPosition: sequence });
  }
}

async function readReservations(
  sql: Sql,
  table: string,
  ids: readonly string[],
): Promise<readonly (ReservationRow & { readonly id: string })[]> {
  if (ids.length === 0) return [];
  return sql<(ReservationRow & { id: string })[]>`
    select id, unit, held_position as "heldPosition", changed_position as "changedPosition", reservation
    from ${sql(table)} where id = any(${ids}::text[])`;
}

async function saveReservations(tx: Tx, table: string, rows: readonly ReservationRow[]): Promise<void> {
  for (const chunk of chunksOf(rows, MAX_RESERVATIONS_PER_WRITE)) await writeReservations(tx, table, chunk);
}

async function writeReservations(tx: Tx, table: string, rows: readonly ReservationRow[]): Promise<void> {
  const column = <T>(value: (row: ReservationRow) => T): T[] => rows.map(value);
  await tx`
    insert into ${tx(table)}
      (id, unit, customer, locker, status, from_at, until_at, hold_expires_at, held_position, changed_position,
        reservation)
    select id, unit, customer, locker, status, from_at, until_at, hold_expires_at, held_position, changed_position,
      reservation::json
    from unnest(
      ${column(({ reservation }) => reservation.id)}::text[],
      ${column(({ unit }) => unit)}::text[],
      ${column(({ reservation }) => reservation.customer)}::text[],
      ${column(({ reservation }) => reservation.locker)}::text[],
      ${column(({ reservation }) => reservation.status)}::text[],
      ${column(({ reservation }) => reservation.from)}::timestamptz[],
      ${column(({ reservation }) => reservation.until)}::timestamptz[],
      ${column(({ reservation }) => reservation.holdExpiresAt)}::timestamptz[],
      ${column(({ heldPosition }) => heldPosition)}::bigint[],
      ${column(({ changedPosition }) => changedPosition)}::bigint[],
      ${column(({ reservation }) => JSON.stringify(reservation))}::text[]
    ) as batch (id, unit, customer, locker, status, from_at, until_at, hold_expires_at, held_position, changed_position,
      reservation)
    on conflict (id) do update set
      locker = excluded.locker, status = excluded.status, from_at = excluded.from_at, until_at = excluded.until_at,
      hold_expires_at = excluded.hold_expires_at,
      changed_position = excluded.changed_position, reservation = excluded.reservation`;
}

/** A unit with what customers may rent there. */
interface Place {
  readonly before: UnitState;
  readonly state: UnitState;
  readonly unit: RegisteredUnit;
  readonly values: ConfigurationValues;
}

async function applyPlaces(tx: Tx, schema: string, folded: readonly FoldedUnit[]): Promise<void> {
  if (folded.length === 0) return;
  const places = folded.map(({ before, after }): Place => {
    if (after.registry.status === 'unregistered')
      throw new Error(`Unit ${after.name} was folded without its registration.`);
    const { values } = requireConfigured(after.configuration).desired;
    return { before, state: after, unit: after.registry, values };
  });
  const changed = places.filter(
    ({ before, state }) => before.registry !== state.registry || before.configuration !== state.configuration,
  );
  if (changed.length > 0) await savePlaces(tx, `${schema}.place`, changed);
  await saveConnectivity(tx, `${schema}.place`, places);
  await deleteRemovedLockers(tx, `${schema}.locker`, changed);
  await saveLockers(tx, `${schema}.locker`, places.flatMap(changedLockers));
}

/** Writes the location of units, and the part of their configuration that availability depends on. */
async function savePlaces(tx: Tx, table: string, places: readonly Place[]): Promise<void> {
  const column = <T>(value: (place: Place) => T): T[] => places.map(value);
  await tx`
    insert into ${tx(table)} (unit, lat, lon, in_use, minimum_minutes, maximum_minutes, time_zone, opening_rules,
      configuration, maintenance)
    select unit, lat, lon, in_use, minimum_minutes, maximum_minutes, time_zone, opening_rules,
      configuration::json, maintenance::json
    from unnest(
      ${column(({ unit }) => unit.name)}::text[],
      ${column(({ unit }) => unit.location.lat)}::double precision[],
      ${column(({ unit }) => unit.location.lon)}::double precision[],
      ${column(({ unit }) => unit.status === 'registered' && !unit.credentialsRevoked)}::boolean[],
      ${column(({ values }) => values.minimumMinutes)}::int[],
      ${column(({ values }) => values.maximumMinutes)}::int[],
      ${column(({ unit }) => unit.timeZone)}::text[],
      ${column(({ values }) => openingRulesText(values))}::text[],
      ${column(({ values }) => JSON.stringify(values))}::text[],
      ${column(({ unit }) => JSON.stringify(unit.maintenance))}::text[]
    ) as batch (unit, lat, lon, in_use, minimum_minutes, maximum_minutes, time_zone, opening_rules, configuration,
      maintenance)
    on conflict (unit) do update set
      lat = excluded.lat, lon = excluded.lon, in_use = excluded.in_use, minimum_minutes = excluded.minimum_minutes,
      maximum_minutes = excluded.maximum_minutes, time_zone = excluded.time_zone, opening_rules = excluded.opening_rules,
      configuration = excluded.configuration, maintenance = excluded.maintenance`;
}

function openingRulesText({ openingHours, rentalsMayEndOutsideHours }: ConfigurationValues): string {
  const rules: OpeningRules = {
    openingHours,
    ...(rentalsMayEndOutsideHours === true ? { rentalsMayEndOutsideHours } : {}),
  };
  return JSON.stringify(rules);
}

/** Writes whether units are online, and when the last event of each occurred. */
async function saveConnectivity(tx: Tx, table: string, places: readonly Place[]): Promise<void> {
  await tx`
    update ${tx(table)} p set online = batch.online, known_at = batch.known_at
    from unnest(
      ${places.map(({ unit }) => unit.name)}::text[],
      ${places.map(({ state }) => state.connectivity.status === 'online')}::boolean[],
      ${places.map(({ state }) => storableTime(state.device.lastEventAt))}::timestamptz[]
    ) as batch (unit, online, known_at)
    where p.unit = batch.unit`;
}

interface LockerRow {
  readonly unit: string;
  readonly locker: RegisteredLocker;
  readonly ordinal: number;
  readonly reported: DeviceLocker | undefined;
}

/** The lockers whose row the fold added or changed. */
function changedLockers({ before, state, unit }: Place): LockerRow[] {
  const known = before.registry.status === 'unregistered' ? [] : before.registry.lockers;
  return unit.lockers.flatMap((locker, ordinal) => {
    const reported = state.device.lockers[locker.id];
    const reportedBefore = before.device.lockers[locker.id];
    const isSame =
      known[ordinal] === locker &&
      reportedBefore?.rental === reported?.rental &&
      isDoubted(reportedBefore) === isDoubted(reported);
    return isSame ? [] : [{ unit: unit.name, locker, ordinal, reported }];
  });
}

/** Deletes the lockers that units have lost, also by being registered anew. */
async function deleteRemovedLockers(tx: Tx, table: string, places: readonly Place[]): Promise<void> {
  const removed = places.flatMap(({ before, unit }) => {
    if (before.registry.status === 'unregistered' || before.registry.lockers === unit.lockers) return [];
    const present = new Set(unit.lockers.map(({ id }) => id));
    return before.registry.lockers.filter(({ id }) => !present.has(id)).map(({ id }) => ({ unit: unit.name, id }));
  });
  if (removed.length === 0) return;
  await tx`
    delete from ${tx(table)} l
    using unnest(${removed.map(({ unit }) => unit)}::text[], ${removed.map(({ id }) => id)}::text[]) as lost (unit, id)
    where l.unit = lost.unit and l.id = lost.id`;
}

async function saveLockers(tx: Tx, table: string, rows: readonly LockerRow[]): Promise<void> {
  if (rows.length === 0) return;
  await tx`
    insert into ${tx(table)} (unit, id, ordinal, size, out_of_service_from, out_of_service_until, rental_from,
      rental_until, doubted)
    select * from unnest(
      ${rows.map(({ unit }) => unit)}::text[],
      ${rows.map(({ locker }) => locker.id)}::text[],
      ${rows.map(({ ordinal }) => ordinal)}::int[],
      ${rows.map(({ locker }) => locker.size)}::text[],
      ${rows.map(({ locker }) => locker.outOfService?.since ?? null)}::timestamptz[],
      ${rows.map(({ locker }) => locker.outOfService?.until ?? null)}::timestamptz[],
      ${rows.map(({ reported }) => storableTime(reported?.rental?.startedAt))}::timestamptz[],
      ${rows.map(({ reported }) => storableTime(reported?.rental?.until))}::timestamptz[],
      ${rows.map(({ reported }) => isDoubted(reported))}::boolean[]
    )
    on conflict (unit, id) do update set
      ordinal = excluded.ordinal, size = excluded.size, out_of_service_from = excluded.out_of_service_from,
      out_of_service_until = excluded.out_of_service_until, rental_from = excluded.rental_from, rental_until = excluded.rental_until,
      doubted = excluded.doubted`;
}

/** Converts a time of a unit's clock to one that Postgres accepts. Early events hold days that do not exist, such as 30 February. */
function storableTime(time: string | undefined): string | null {
  return time === undefined ? null : toInstant(Math.max(toMs(time), EARLIEST_STORABLE_MS));
}
