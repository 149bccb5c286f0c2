/** The sync of reservation lists on a real NATS with simulated units: coalescing, waiting for the log, refusals, and units that are silent. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { findSyncedReservation } from '../../device-sim/unit/model.ts';
import { api } from '../../platform/nats/jetstream.ts';
import { UnitUnreachableError } from '../../platform/units/unit-command-client.ts';
import { eventually } from '../support/eventually.ts';
import { connectPlatform } from '../support/nats.ts';
import { ReservationWorld, type Send } from '../support/reservation-world.ts';

const TEST_TIMEOUT_MS = 240_000;
/** A loaded machine needs long to retry all silent units. */
const SLOW_RETRIES = { timeoutMs: 120_000 };
const UNITS = 8;
/** More units than the reactor syncs at the same time. */
const SILENT_UNITS = 140;

let world: ReservationWorld;

beforeAll(async () => {
  world = await ReservationWorld.start({ units: UNITS, lockers: 3 });
}, TEST_TIMEOUT_MS);

afterAll(() => world.stop());

const booking = (unit: string, id: string, locker = 'A', fromMin = 60) => ({
  id: `${unit}.${id}`,
  locker,
  fromMin,
  untilMin: fromMin + 30,
});

/** Resolves when the reactor has handled every event, so that each change has added its job. */
async function reactorIsIdle(): Promise<void> {
  const nats = await connectPlatform();
  try {
    await eventually(async () => {
      const state = await api<{ num_ack_pending: number; num_pending: number }>(nats, 'CONSUMER.INFO.EVENTS.reactor');
      return state.num_ack_pending + state.num_pending === 0;
    });
  } finally {
    await nats.close();
  }
}

describe('the sync of a unit', () => {
  test(
    'runs once at a time, and the changes meanwhile share the next one',
    async () => {
      const unit = world.nextUnit();
      const { name } = unit;
      await world.register(unit);
      await world.book(name, booking(name, 'first'));
      await world.accepted(name, `${name}.first`);

      const gate = Promise.withResolvers<void>();
      let running = 0;
      let most = 0;
      let begun = 0;
      world.intercepted.set(name, async (_, send: Send) => {
        running += 1;
        begun += 1;
        most = Math.max(most, running);
        await gate.promise;
        running -= 1;
        return send();
      });
      await world.book(name, booking(name, 'second', 'B'));
      await eventually(() => begun === 1);
      const ids = Array.from({ length: 40 }, (_, index) => `n${index}`);
      for (const [index, id] of ids.entries()) await world.book(name, booking(name, id, 'A', 120 + 30 * index));
      await reactorIsIdle();
      expect(begun).toBe(1);
      gate.resolve();
      await world.accepted(name, ...ids.map((id) => `${name}.${id}`));
      expect(most).toBe(1);
      // One page for the second reservation, and one for all others: the last job may have come while that one was under way.
      expect(begun).toBeLessThanOrEqual(3);
      expect(await world.parkedWork()).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'waits until the log is recorded up to the place that the unit has named',
    async () => {
      const unit = world.nextUnit();
      const { name } = unit;
      const { epoch, lastSeq } = unit.model.log;
      world.reportedPlaces.set(name, { epoch, seq: lastSeq });
      await world.registerUnrecorded(unit);
      let asked = 0;
      const places = world.reportedPlaces;
      places.get = (key) => {
        if (key === name) asked += 1;
        return Map.prototype.get.call(places, key);
      };
      await world.book(name, booking(name, 'first'));
      await eventually(() => asked >= 3);
      expect(world.pagesTo(name)).toEqual([]);
      await world.recordLog(name);
      await world.accepted(name, `${name}.first`);
      for (const { asOf } of world.pagesTo(name)) expect(asOf).toMatchObject({ epoch, seq: lastSeq });
      expect(findSyncedReservation(unit.model, `${name}.first`)).toMatchObject({ locker: 'A' });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'begins without a log that does not come',
    async () => {
      const unit = world.nextUnit();
      const { name } = unit;
      world.reportedPlaces.set(name, { epoch: unit.model.log.epoch, seq: unit.model.log.lastSeq });
      await world.registerUnrecorded(unit);
      await world.book(name, booking(name, 'first'));
      world.advance(1);
      await world.accepted(name, `${name}.first`);
      expect(world.pagesTo(name)[0]?.asOf.seq).toBe(0);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'records what the unit refuses, and the reservation moves to a locker that the unit has',
    async () => {
      const unit = world.nextUnit();
      const { name } = unit;
      const own = unit.model.lockers.map(({ id, size }) => ({ id, size }));
      await world.register(unit, { lockers: [...own, { id: 'Z', size: 'S' }] });
      const id = `${name}.refused`;
      await world.book(name, { ...booking(name, 'refused', 'Z') });
      await eventually(async () => (await world.reservation(name, id))?.locker !== 'Z');
      await world.accepted(name, id);
      const events = (await world.events(name)).filter(({ data }) => 'reservationId' in data);
      expect(events.find(({ type }) => type === 'ReservationRefusedByUnit')?.data).toEqual({
        reservationId: id,
        locker: 'Z',
        reason: 'unknown-locker',
      });
      expect(events.filter(({ type }) => type === 'ReservationConflictDetected')).toMatchObject([
        { data: { reservationId: id, locker: 'Z', resolution: 'moved' } },
      ]);
      const { locker } = (await world.reservation(name, id)) ?? {};
      expect(findSyncedReservation(unit.model, id)?.locker).toBe(locker);
    },
    TEST_TIMEOUT_MS,
  );
});

test(
  'units that stop answering take no place from others, and get their list when they answer again',
  async () => {
    const unit = world.nextUnit();
    await world.register(unit);
    const attempts = new Map<string, number>();
    const silent = Array.from({ length: SILENT_UNITS }, (_, index) => `SILENT-${index}`);
    let isSilent = true;
    await Promise.all(
      silent.map(async (name) => {
        await world.registerNamed(name);
        world.intercepted.set(name, async (page) => {
          attempts.set(name, (attempts.get(name) ?? 0) + 1);
          if (isSilent) throw new UnitUnreachableError(`no answer from ${name}`);
          return {
            commandId: '',
            status: 'done',
            rejected: [],
            log: { epoch: '', lastSeq: page.asOf.seq },
            rentals: [],
          };
        });
        await world.book(name, booking(name, 'r'));
      }),
    );
    await eventually(() => attempts.size === SILENT_UNITS, SLOW_RETRIES);
    // Each silent unit has failed and is retried, while the other one gets its list.
    await world.book(unit.name, booking(unit.name, 'r'));
    await world.accepted(unit.name, `${unit.name}.r`);
    for (const name of silent) expect((await world.reservation(name, `${name}.r`))?.unitAck).toBe('pending');
    isSilent = false;
    await eventually(async () => {
      const reservations = await Promise.all(silent.map((name) => world.reservation(name, `${name}.r`)));
      return reservations.every((reservation) => reservation?.unitAck === 'accepted');
    }, SLOW_RETRIES);
    expect(await world.parkedWork()).toEqual([]);
  },
  TEST_TIMEOUT_MS,
);
