/** Bad days at a simulated unit, on a real NATS: the platform keeps what the unit did while it was cut off, and no customer loses a locker in use. */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import type { EmulatedUnit } from '../../device-sim/emulation/emulated-unit.ts';
import { findSyncedReservation } from '../../device-sim/unit/model.ts';
import { Refusal } from '../../domain/refusal.ts';
import type { SyncReservations } from '../../domain/unit-protocol/reservation-list.ts';
import { eventually } from '../support/eventually.ts';
import { ReservationWorld } from '../support/reservation-world.ts';

const TEST_TIMEOUT_MS = 90_000;
const UNITS = 4;

let world: ReservationWorld;

beforeAll(async () => {
  world = await ReservationWorld.start({ units: UNITS, lockers: 3 });
}, TEST_TIMEOUT_MS);

afterAll(() => world.stop());

async function nextUnit(): Promise<EmulatedUnit> {
  const unit = world.nextUnit();
  await world.register(unit);
  return unit;
}

async function cutOff(unit: EmulatedUnit): Promise<void> {
  await unit.setFaults({ offline: true });
  await world.goOffline(unit.name);
}

async function reconnect(unit: EmulatedUnit): Promise<void> {
  await unit.setFaults({ offline: false });
  await world.goOnline(unit.name);
}

const rentalIn = (unit: EmulatedUnit, locker: string) =>
  unit.model.lockers.find(({ id }) => id === locker)?.rental?.reservationId;

/** The data of the conflicts of a reservation, in the order of the store. */
async function conflictsOf(unit: string, reservationId: string): Promise<readonly object[]> {
  const events = (await world.events(unit)).filter(({ type }) => type === 'ReservationConflictDetected');
  return events
    .map(({ data }) => data)
    .filter((data) => 'reservationId' in data && data.reservationId === reservationId);
}

test(
  'a list that overtakes the log of a full unit ends no use, and the customer who was given up keeps the locker',
  async () => {
    const unit = await nextUnit();
    const { name } = unit;
    const id = (reservation: string) => `${name}.${reservation}`;
    // R1 and R2 have A one after the other. The other lockers are taken, so the platform cannot move a reservation.
    const first = await world.book(name, { id: id('R1'), locker: 'A', fromMin: 0, untilMin: 60 });
    const second = await world.book(name, { id: id('R2'), locker: 'A', fromMin: 60, untilMin: 180 });
    await world.book(name, { id: id('R3'), locker: 'B', fromMin: 0, untilMin: 300 });
    await world.book(name, { id: id('R4'), locker: 'C', fromMin: 0, untilMin: 300 });
    await world.accepted(name, id('R1'), id('R2'), id('R3'), id('R4'));
    world.advance(1);
    expect((await world.redeem(name, first)).status).toBe(200);
    await world.recordLog(name);
    await eventually(async () => (await world.reservation(name, id('R1')))?.status === 'active');

    await cutOff(unit);
    world.advance(54);
    expect((await world.door(name, 'A', 'close')).status).toBe(200);
    expect((await world.door(name, 'A', 'give-back')).status).toBe(200);
    world.advance(7);
    expect((await world.redeem(name, second)).status).toBe(200);
    expect((await world.door(name, 'A', 'close')).status).toBe(200);

    // The platform has heard of neither. When the hold of another customer runs out, R1 looks overdue and R2 is given up.
    world.advance(20);
    await world.hold(name, { id: id('other'), locker: 'A', fromMin: 200, untilMin: 230 });
    world.advance(12);
    await eventually(async () => (await world.reservation(name, id('other')))?.status === 'expired');
    await eventually(async () => (await world.reservation(name, id('R2')))?.status === 'rejected');

    const before = world.pagesTo(name).length;
    await reconnect(unit);
    await eventually(() => world.pagesTo(name).length > before);
    const overtaking = world.pagesTo(name).at(-1);
    expect(overtaking?.reservations.map(({ reservationId }) => reservationId)).not.toContain(id('R2'));
    expect(rentalIn(unit, 'A')).toBe(id('R2'));

    await world.recordLog(name);
    await eventually(async () => (await world.reservation(name, id('R2')))?.status === 'active');
    expect((await world.reservation(name, id('R1')))?.status).toBe('completed');
    expect((await conflictsOf(name, id('R2'))).at(-1)).toEqual({
      reservationId: id('R2'),
      locker: 'A',
      resolution: 'used',
    });
    // The unit gets the reservation again, and its rental goes on.
    await eventually(() => findSyncedReservation(unit.model, id('R2')) !== undefined);
    expect(rentalIn(unit, 'A')).toBe(id('R2'));
    const sale = world.hold(name, { id: id('late'), locker: 'A', fromMin: 0, untilMin: 30 });
    await expect(sale).rejects.toBeInstanceOf(Refusal);
  },
  TEST_TIMEOUT_MS,
);

test(
  'the QR code of a cancelled reservation is refused by a unit with a newer list, also when it never had the reservation',
  async () => {
    const unit = await nextUnit();
    const { name } = unit;
    const [known, unknown] = [`${name}.known`, `${name}.unknown`];
    const knownToken = await world.book(name, { id: known, locker: 'A', fromMin: 0, untilMin: 60 });
    await world.accepted(name, known);
    // The unit hears nothing between the confirmation of the second one and its cancellation.
    const gate = Promise.withResolvers<void>();
    world.intercepted.set(name, async (_, send) => {
      await gate.promise;
      return send();
    });
    const unknownToken = await world.book(name, { id: unknown, locker: 'B', fromMin: 0, untilMin: 60 });
    for (const id of [known, unknown]) {
      await world.append(name, 'booking', [{ type: 'ReservationCancelled', data: { reservationId: id } }]);
    }
    gate.resolve();
    const { sequences } = await world.state(name);
    await eventually(() => world.pagesTo(name).at(-1)?.asOf.bookings === sequences.booking);
    for (const token of [knownToken, unknownToken]) {
      expect(await world.redeem(name, token)).toMatchObject({ status: 409, body: { reason: 'revoked' } });
    }
    await world.recordLog(name);
    for (const id of [known, unknown]) expect((await world.reservation(name, id))?.status).toBe('cancelled');
  },
  TEST_TIMEOUT_MS,
);

test(
  'the use of a cancelled reservation at a unit that could not know stands, and is a recorded conflict',
  async () => {
    const unit = await nextUnit();
    const { name } = unit;
    const id = `${name}.used`;
    const token = await world.book(name, { id, locker: 'A', fromMin: 0, untilMin: 60 });
    await world.accepted(name, id);
    await cutOff(unit);
    await world.append(name, 'booking', [{ type: 'ReservationCancelled', data: { reservationId: id } }]);
    expect((await world.redeem(name, token)).status).toBe(200);
    await reconnect(unit);
    await world.recordLog(name);
    await eventually(async () => (await world.reservation(name, id))?.status === 'active');
    expect(await conflictsOf(name, id)).toEqual([{ reservationId: id, locker: 'A', resolution: 'used' }]);
    await eventually(() => findSyncedReservation(unit.model, id) !== undefined);
    expect(rentalIn(unit, 'A')).toBe(id);
  },
  TEST_TIMEOUT_MS,
);

test(
  'of two servers that sync a unit at once, the one with the older list changes nothing at the unit',
  async () => {
    const unit = await nextUnit();
    const { name } = unit;
    const [early, late] = [`${name}.early`, `${name}.late`];
    await world.book(name, { id: early, locker: 'A', fromMin: 60, untilMin: 90 });
    await world.accepted(name, early);
    const arrived = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    // The page of the slow server has been computed, and is on its way to the unit.
    let older: SyncReservations | undefined;
    const slow = world.newServer(() => async (page, send) => {
      older ??= page;
      arrived.resolve();
      await gate.promise;
      return send();
    });
    const slowSync = slow.sync.syncUnit(name);
    await arrived.promise;
    await world.append(name, 'booking', [{ type: 'ReservationCancelled', data: { reservationId: early } }]);
    await world.book(name, { id: late, locker: 'B', fromMin: 60, untilMin: 90 });
    await world.accepted(name, late);
    const { bookings } = unit.model.synced.lockers.B ?? {};
    gate.resolve();
    expect(await slowSync).toBe('done');
    expect(older?.reservations.map(({ reservationId }) => reservationId)).toEqual([early]);
    expect(older?.asOf.bookings).toBeLessThan(bookings ?? 0);
    expect(unit.model.synced.lockers.B?.bookings).toBeGreaterThanOrEqual(bookings ?? 0);
    expect(findSyncedReservation(unit.model, early)).toBeUndefined();
    expect(findSyncedReservation(unit.model, late)).toMatchObject({ locker: 'B' });
    expect((await world.reservation(name, early))?.status).toBe('cancelled');
    // Both servers at once end with what the newest state says.
    await Promise.all([slow.sync.syncUnit(name), world.server.sync.syncUnit(name)]);
    expect(findSyncedReservation(unit.model, late)).toMatchObject({ locker: 'B' });
  },
  TEST_TIMEOUT_MS,
);
