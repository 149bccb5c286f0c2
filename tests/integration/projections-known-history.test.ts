/**
 * A small history and the rows that each read model must show for it, written by hand. The other tests compare a read model with
 * a second fold by the same code, so they find lost or repeated events, and cannot find a mistake of the fold.
 */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import type { Aggregate, CloudEvent } from '../../domain/events/cloud-event.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { snapshotReader } from '../../projections/bookings/queries.ts';
import { configurationAttempts, configurationVersions } from '../../projections/configuration/queries.ts';
import { listDays } from '../../projections/daily_summary/queries.ts';
import { listEvents } from '../../projections/event_log/queries/events.ts';
import { listReservations } from '../../projections/reservations/queries.ts';
import { getUnit, listUnits } from '../../projections/units/queries/units.ts';
import { fillToTheEnd, freshPostgres, readModelsOf } from '../support/projections.ts';

const UNIT = 'PL-1000';
const RESERVATION = `${UNIT}.0b7c9f5e-0000-4000-8000-000000000001`;
const FIRST_HASH = '1'.repeat(64);
const SECOND_HASH = '2'.repeat(64);

const VALUES = {
  prices: [{ size: 'M', currency: 'PLN', firstMinutes: 60, firstPrice: 500, stepMinutes: 30, stepPrice: 250 }],
  openingHours: [],
  minimumMinutes: 15,
  maximumMinutes: 600,
  holdTtlS: 600,
  texts: {},
};

interface Happened {
  readonly aggregate: Aggregate;
  readonly type: string;
  readonly time: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly locker?: string;
  readonly seq?: number;
}

/** Times are UTC; the unit is in Warsaw, two hours ahead. The rental lasts from 10:00 to 10:45. */
const HISTORY: readonly Happened[] = [
  {
    ...{ aggregate: 'registry', type: 'UnitRegistered', time: '2026-06-01T08:00:00.000Z' },
    data: {
      ...{ name: UNIT, displayName: 'Central station', address: '10.0.0.7:7800', probe: 'http', delivery: 'push' },
      ...{ commandChannel: 'http', location: { lat: 52.23, lon: 21.01 }, timeZone: 'Europe/Warsaw', tags: ['indoor'] },
      lockers: [
        { id: 'A', size: 'M' },
        { id: 'B', size: 'M' },
      ],
      configuration: { version: 1, hash: FIRST_HASH, values: VALUES },
      ...{ keyVersion: 1, natsUser: 'U' },
    },
  },
  {
    ...{ aggregate: 'connectivity', type: 'UnitWentOnline', time: '2026-06-01T09:00:00.000Z' },
    data: { evidence: 'ping' },
  },
  {
    ...{ aggregate: 'booking', type: 'ReservationHeld', time: '2026-06-01T09:30:00.000Z' },
    data: {
      ...{ reservationId: RESERVATION, customer: 'alice', locker: 'A', size: 'M', configurationVersion: 1 },
      ...{ from: '2026-06-01T10:00:00.000Z', until: '2026-06-01T11:00:00.000Z' },
      ...{ holdExpiresAt: '2026-06-01T09:40:00.000Z', price: { amount: 500, currency: 'PLN' } },
    },
  },
  {
    ...{ aggregate: 'booking', type: 'ReservationConfirmed', time: '2026-06-01T09:35:00.000Z' },
    data: { reservationId: RESERVATION, paymentReference: 'pay_1' },
  },
  {
    ...{ aggregate: 'booking', type: 'PaymentSucceeded', time: '2026-06-01T09:35:00.000Z' },
    data: { reference: 'pay_1', amount: 500, currency: 'PLN', reservationId: RESERVATION },
  },
  {
    ...{ aggregate: 'device', type: 'RentalStarted', time: '2026-06-01T10:00:00.000Z', locker: 'A', seq: 1 },
    data: { rentalId: 'rental-1', reservationId: RESERVATION, until: '2026-06-01T11:00:00.000Z' },
  },
  {
    ...{ aggregate: 'booking', type: 'ReservationStarted', time: '2026-06-01T10:00:01.000Z' },
    data: { reservationId: RESERVATION, locker: 'A', startedAt: '2026-06-01T10:00:00.000Z' },
  },
  {
    ...{ aggregate: 'device', type: 'RentalEnded', time: '2026-06-01T10:45:00.000Z', locker: 'A', seq: 2 },
    data: { rentalId: 'rental-1', reservationId: RESERVATION, reason: 'given-back' },
  },
  {
    ...{ aggregate: 'booking', type: 'ReservationCompleted', time: '2026-06-01T10:45:01.000Z' },
    data: { reservationId: RESERVATION, endedAt: '2026-06-01T10:45:00.000Z', endedBy: 'unit' },
  },
  {
    ...{ aggregate: 'config', type: 'ConfigurationChanged', time: '2026-06-01T12:00:00.000Z' },
    data: { version: 2, hash: SECOND_HASH, values: { ...VALUES, minimumMinutes: 30 }, mode: 'live' },
  },
  {
    ...{ aggregate: 'config', type: 'ConfigurationApplied', time: '2026-06-01T12:00:02.000Z' },
    data: { version: 2, hash: SECOND_HASH, evidence: 'answer' },
  },
];

let postgres: Postgres;

beforeAll(async () => {
  let recordedAtMs = 0;
  const store = new MemoryEventStore(() => recordedAtMs);
  const last = new Map<Aggregate, number>();
  for (const [index, { aggregate, type, time, data, locker, seq }] of HISTORY.entries()) {
    recordedAtMs = Date.parse(time);
    const event: CloudEvent = {
      ...{ specversion: '1.0', id: `event-${index + 1}`, source: '/test', type, time, data },
      ...{ subject: locker === undefined ? UNIT : `${UNIT}/${locker}`, dataschema: `${type}/1`, actor: 'ops:test' },
      ...(seq === undefined ? {} : { unitepoch: 'epoch-1', unitseq: seq }),
    };
    const expectedSequence = last.get(aggregate) ?? 0;
    await store.append({ unit: UNIT, aggregate, expectedSequence, commandId: `command-${index + 1}`, events: [event] });
    last.set(aggregate, index + 1);
  }
  postgres = await freshPostgres();
  await fillToTheEnd(postgres, store);
}, 60_000);

afterAll(() => postgres.close(1));

test('units: the row of the grid and the details', async () => {
  const { items } = await listUnits(readModelsOf(postgres), { limit: 10 });
  expect(items).toMatchObject([
    { name: UNIT, displayName: 'Central station', lockers: 2, configStatus: 'applied', backlog: 0, flapping: false },
  ]);
  const { schema } = await readModelsOf(postgres).servingRuns.find('units');
  const rows = await postgres.sql`
    select unit, address, probe, delivery, connectivity, connectivity_since, recorded_epoch, recorded_seq, has_gap, wanted_hash,
      wanted_at, retired
    from ${postgres.sql(`${schema}.unit`)}`;
  expect([...rows]).toEqual([
    {
      ...{ unit: UNIT, address: '10.0.0.7:7800', probe: 'http', delivery: 'push', connectivity: 'online' },
      ...{ connectivity_since: new Date('2026-06-01T09:00:00.000Z'), recorded_epoch: 'epoch-1', recorded_seq: 2 },
      ...{ has_gap: false, wanted_hash: SECOND_HASH, wanted_at: new Date('2026-06-01T12:00:00.000Z'), retired: false },
    },
  ]);
  expect(await getUnit(readModelsOf(postgres), UNIT, Date.now())).toMatchObject({
    name: UNIT,
    timeZone: 'Europe/Warsaw',
  });
});

test('bookings: the snapshot of the unit', async () => {
  const { state, completeTo } = await snapshotReader(readModelsOf(postgres))(UNIT);
  expect(completeTo).toBe(11);
  expect(state.sequences).toEqual({ registry: 1, connectivity: 2, booking: 9, device: 8, config: 11, log: 0 });
  expect(state.booking.open).toEqual([]);
  expect(state.booking.finished).toMatchObject([{ id: RESERVATION, status: 'completed', locker: 'A' }]);
  expect(state.device.epochs).toEqual({ 'epoch-1': 2 });
});

test('reservations: the reservation of the customer', async () => {
  const { items } = await listReservations(readModelsOf(postgres), { customer: 'alice', limit: 10 });
  expect(items).toMatchObject([
    {
      ...{ id: RESERVATION, unit: UNIT, status: 'completed', locker: 'A', size: 'M', paymentReference: 'pay_1' },
      ...{ from: '2026-06-01T10:00:00.000Z', until: '2026-06-01T11:00:00.000Z' },
      ...{ startedAt: '2026-06-01T10:00:00.000Z', endedAt: '2026-06-01T10:45:00.000Z' },
      price: { amount: 500, currency: 'PLN' },
    },
  ]);
  const { schema } = await readModelsOf(postgres).servingRuns.find('reservations');
  const lockers = await postgres.sql`
    select id, size, out_of_service_from, rental_from from ${postgres.sql(`${schema}.locker`)} order by ordinal`;
  expect([...lockers]).toEqual([
    { id: 'A', size: 'M', out_of_service_from: null, rental_from: null },
    { id: 'B', size: 'M', out_of_service_from: null, rental_from: null },
  ]);
});

test('event_log: every event in the order of the store', async () => {
  const { items, total } = await listEvents(readModelsOf(postgres), { sort: 'position', limit: 50, count: true });
  expect(total).toBe(11);
  expect(items.map(({ position, type }) => `${position} ${type}`)).toEqual([
    '1.0 UnitRegistered',
    '2.0 UnitWentOnline',
    '3.0 ReservationHeld',
    '4.0 ReservationConfirmed',
    '5.0 PaymentSucceeded',
    '6.0 RentalStarted',
    '7.0 ReservationStarted',
    '8.0 RentalEnded',
    '9.0 ReservationCompleted',
    '10.0 ConfigurationChanged',
    '11.0 ConfigurationApplied',
  ]);
});

test('configuration: the versions and the outcomes of their delivery', async () => {
  const versions = await configurationVersions(readModelsOf(postgres), { unit: UNIT, limit: 10 });
  expect(versions.items).toMatchObject([
    {
      ...{ version: 2, hash: SECOND_HASH, mode: 'live', status: 'applied', wantedAt: '2026-06-01T12:00:00.000Z' },
      ...{ appliedAt: '2026-06-01T12:00:02.000Z', wantedBy: 'ops:test', changes: [{ path: '/minimumMinutes' }] },
    },
    { version: 1, hash: FIRST_HASH, mode: null, status: 'replaced', appliedAt: null, changes: [] },
  ]);
  const attempts = await configurationAttempts(readModelsOf(postgres), { unit: UNIT, limit: 10 });
  expect(attempts.items).toMatchObject([{ at: '2026-06-01T12:00:02.000Z', version: 2, outcome: 'applied' }]);
});

test('daily_summary: the figures of the day in Warsaw, which ends at 22:00 UTC', async () => {
  const nowMs = Date.parse('2026-06-01T14:00:00.000Z');
  const { items } = await listDays(readModelsOf(postgres), { unit: UNIT, limit: 10, nowMs });
  expect(items).toEqual([
    {
      ...{ day: '2026-06-01', units: 1, isOver: false, rentals: 1, revenue: [{ amount: 500, currency: 'PLN' }] },
      // 45 minutes of one locker; 6 hours of two lockers; online since 09:00; registered since 08:00.
      ...{ rentedMs: 2_700_000, inServiceMs: 43_200_000, onlineMs: 18_000_000, lifeMs: 21_600_000 },
      ...{ hardwareErrors: 0, openFailures: 0, conflicts: 0 },
    },
  ]);
});
