/** A unit with thousands of reservations: its list travels in bounded messages, and each reservation is acknowledged once. */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import type { EventDraft } from '../../domain/events/drafts.ts';
import { MAX_PAGE_RESERVATIONS } from '../../domain/unit-protocol/reservation-list.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import { MAX_COMMIT_EVENTS } from '../../platform/event-store/store.ts';
import { eventually } from '../support/eventually.ts';
import { ReservationWorld } from '../support/reservation-world.ts';
import { HOUR_MS } from '../support/scene.ts';

const TEST_TIMEOUT_MS = 180_000;
const RESERVATIONS = 2_600;
const LOCKERS = 8;
/** Reservations that one commit of the test books. */
const BOOKED_AT_ONCE = 200;
const MAX_MESSAGE_BYTES = 256 * 1024;

let world: ReservationWorld;

beforeAll(async () => {
  world = await ReservationWorld.start({ units: 1, lockers: LOCKERS });
}, TEST_TIMEOUT_MS);

afterAll(() => world.stop());

/** A held and confirmed reservation. The reservations of a locker follow one another. */
function booked(unit: string, index: number, nowMs: number): EventDraft[] {
  const reservationId = `${unit}.${index}`;
  const locker = 'ABCDEFGH'[index % LOCKERS] ?? 'A';
  const fromMs = nowMs + HOUR_MS * (1 + Math.floor(index / LOCKERS));
  const period = { from: toInstant(fromMs), until: toInstant(fromMs + HOUR_MS) };
  const held = { reservationId, customer: 'c', locker, size: 'S' as const, holdExpiresAt: toInstant(nowMs + HOUR_MS) };
  const price = { amount: 200, currency: 'EUR' };
  return [
    { type: 'ReservationHeld', locker, data: { ...held, ...period, price, configurationVersion: 1 } },
    { type: 'ReservationConfirmed', locker, data: { reservationId, paymentReference: 'paid' } },
  ];
}

test(
  'the list of 2,600 reservations is sent in bounded messages, acknowledged once each, and nothing is parked',
  async () => {
    const [unit] = world.units;
    if (unit === undefined) throw new Error('there is no unit');
    const { name } = unit;
    await world.register(unit);
    for (let first = 0; first < RESERVATIONS; first += BOOKED_AT_ONCE) {
      const indexes = Array.from({ length: Math.min(BOOKED_AT_ONCE, RESERVATIONS - first) }, (_, n) => first + n);
      await world.append(
        name,
        'booking',
        indexes.flatMap((index) => booked(name, index, world.now())),
      );
    }
    await eventually(
      async () => (await world.state(name)).booking.open.every(({ unitAck }) => unitAck === 'accepted'),
      { timeoutMs: TEST_TIMEOUT_MS },
    );

    const acknowledged = (await world.events(name)).filter(({ type }) => type === 'ReservationAccepted');
    const ids = acknowledged.map(({ data }) => ('reservationId' in data ? data.reservationId : ''));
    expect(ids).toHaveLength(RESERVATIONS);
    expect(new Set(ids).size).toBe(RESERVATIONS);
    const kept = Object.values(unit.model.synced.lockers).flatMap(({ reservations }) => reservations);
    expect(new Set(kept.map(({ reservationId }) => reservationId)).size).toBe(RESERVATIONS);
    for (const { page, bytes } of world.sent) {
      expect(bytes).toBeLessThanOrEqual(MAX_MESSAGE_BYTES);
      expect(page.reservations.length).toBeLessThanOrEqual(MAX_PAGE_RESERVATIONS);
    }
    for (const message of await world.store.tail(name, 0)) {
      expect(message.events().length).toBeLessThanOrEqual(MAX_COMMIT_EVENTS);
    }
    expect(await world.parkedWork()).toEqual([]);
  },
  TEST_TIMEOUT_MS,
);
