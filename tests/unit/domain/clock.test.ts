import { describe, expect, test } from 'bun:test';
import { settleBookings } from '../../../domain/booking/settlement.ts';
import {
  CLOCK_OFFSET_TOLERANCE_MS,
  clockOffsetFromPingMs,
  clockOffsetMs,
  isClockWrong,
  occurredAt,
  occurredAtMs,
} from '../../../domain/device/unit-clock.ts';
import { findUsage } from '../../../domain/device/usage.ts';
import type { EventOf } from '../../../domain/events/catalogue.ts';
import { given, type Past } from '../../support/given.ts';
import {
  at,
  atMs,
  confirmed,
  givenBack,
  HOUR_MS,
  held,
  MINUTE_MS,
  NOW_MS,
  R1,
  registeredWith,
  taken,
} from '../../support/scene.ts';

describe('the clock offset', () => {
  test.each([
    ['is the lead of the unit', '2026-06-01T12:00:05.000Z', 5_000],
    ['is negative when it is behind', '2026-06-01T11:59:00.000Z', -60_000],
    ['of a clock that began anew is large', '1970-01-01T00:00:00Z', -NOW_MS],
    ['is unknown when the unit tells no time', 'noon', undefined],
  ])('%s', (_, unitTime, offset) => {
    expect(clockOffsetMs(unitTime, NOW_MS)).toBe(offset);
  });

  test('of an answer is measured at half the round trip', () => {
    expect(clockOffsetFromPingMs(NOW_MS, NOW_MS - 300, 600)).toBe(0);
    expect(clockOffsetFromPingMs(NOW_MS + HOUR_MS, NOW_MS - 300, 600)).toBe(HOUR_MS);
  });

  test('of an answer that took too long is unknown', () => {
    expect(clockOffsetFromPingMs(NOW_MS, NOW_MS, 2 * CLOCK_OFFSET_TOLERANCE_MS)).toBe(-CLOCK_OFFSET_TOLERANCE_MS);
    expect(clockOffsetFromPingMs(NOW_MS, NOW_MS, 2 * CLOCK_OFFSET_TOLERANCE_MS + 2)).toBeUndefined();
  });

  test.each([
    [0, false],
    [2_000, false],
    [-2_000, false],
    [2_001, true],
    [-2_001, true],
  ])('of %d ms is wrong: %p', (offset, wrong) => {
    expect(isClockWrong(offset)).toBe(wrong);
  });
});

describe('the time at which an event occurred', () => {
  test.each([
    ['its time, as it is written', '2026-06-01T12:00:00Z', undefined, '2026-06-01T12:00:00Z'],
    ['minus the offset of a clock that was ahead', '2026-06-01T13:00:00Z', HOUR_MS, at(0)],
    ['plus the offset of a clock that was behind', at(-60), -HOUR_MS, at(0)],
    ['of a clock that began anew', '1970-01-01T00:00:00.000Z', -NOW_MS, at(0)],
    ['no time is no time', '2026-02-31T25:61:00Z', HOUR_MS, '2026-02-31T25:61:00Z'],
    ['before all years', '0000-01-01T00:00:00.000Z', HOUR_MS, '0000-01-01T00:00:00.000Z'],
    ['after all years', '9999-12-31T23:59:59.999Z', -HOUR_MS, '9999-12-31T23:59:59.999Z'],
  ])('%s', (_, time, offset, expected) => {
    const event = { time, ...(offset === undefined ? {} : { clockoffsetms: offset }) };
    expect(occurredAt(event)).toBe(expected);
    expect(occurredAtMs(event)).toBe(Date.parse(expected));
  });
});

const ahead = (past: Past): Past => ({ ...past, clockOffsetMs: HOUR_MS });
type Reported = EventOf<'UnitStateReported'>['lockers'];

function reported(minutes: number, lockers: Reported): Past {
  const data = { reason: 'gap' as const, configurationHash: 'c', lockers };
  return { type: 'UnitStateReported', atMs: atMs(minutes), data };
}

describe('a unit whose clock is an hour ahead', () => {
  test('has walk-up rentals with corrected start and end', () => {
    const { device } = given(ahead(taken('A', { fromMin: 60, untilMin: 120 }))).state;
    expect(device.lockers.A?.rental).toEqual({ rentalId: 'rental-A', startedAt: at(0), until: at(60) });
    expect(device.lastEventAt).toBe(at(0));
  });

  test('has rentals whose reserved end is not corrected, because the platform set it', () => {
    const start = ahead(taken('A', { fromMin: 60, untilMin: 90, reservationId: R1 }));
    const { device } = given(start).state;
    expect(device.lockers.A?.rental).toMatchObject({ startedAt: at(0), until: at(90) });
    expect(device.usages).toEqual([{ reservationId: R1, startedAt: at(0), locker: 'A' }]);
    const ended = given(start, ahead(givenBack('A', 80, R1))).state.device;
    expect(ended.usages).toEqual([{ reservationId: R1, startedAt: at(0), locker: 'A', endedAt: at(20) }]);
  });

  test('has the rentals of its state report corrected', () => {
    const { device } = given(
      ahead(
        reported(70, [
          { id: 'A', door: 'closed', rental: { rentalId: 'r', startedAt: at(60), until: at(120) } },
          { id: 'B', door: 'open', rental: { rentalId: 's', reservationId: R1, startedAt: at(65), until: at(90) } },
        ]),
      ),
    ).state;
    expect(device.lockers.A?.rental).toEqual({ rentalId: 'r', startedAt: at(0), until: at(60) });
    expect(device.lockers.B?.rental).toMatchObject({ startedAt: at(5), until: at(90) });
    expect(findUsage(device.usages, R1)?.startedAt).toBe(at(5));
    expect(device.lastEventAt).toBe(at(10));
  });

  test('proves the use of a reservation from before it was wiped', () => {
    const past: Past = { ...taken('A', { fromMin: 60, untilMin: 90, reservationId: R1 }), epoch: 'before' };
    const { device } = given({ ...past, type: 'LockerClosed', data: {} }, reported(5, []), ahead(past)).state;
    expect(device.usages).toEqual([{ reservationId: R1, startedAt: at(0), locker: 'A', endedAt: at(0) }]);
  });

  const lockers = registeredWith({ id: 'A', size: 'S' }, { id: 'B', size: 'S' });
  const reservedSoon = [held({ from: at(30), until: at(90) }), confirmed()];

  test('does not occupy a locker in the next hour by a rental of this hour', () => {
    const half = { fromMin: 65, untilMin: 85 };
    // The customer is there until 25 minutes from now, and the reservation begins in 30.
    given(lockers, ...reservedSoon, ahead(taken('A', half)))
      .when((state) => settleBookings(state, NOW_MS + 6 * MINUTE_MS))
      .thenNothing();
    // With a clock that is right, the same words say that the locker is taken while it is reserved.
    const { state } = given(lockers, ...reservedSoon, taken('A', half));
    expect(settleBookings(state, NOW_MS + 66 * MINUTE_MS).map(({ type }) => type)).toEqual([
      'ReservationConflictDetected',
      'ReservationMoved',
    ]);
  });

  test('starts and completes a reservation at the corrected times', () => {
    given(
      lockers,
      held(),
      confirmed(),
      ahead(taken('A', { fromMin: 65, untilMin: 120, reservationId: R1 })),
      ahead(givenBack('A', 75, R1)),
    )
      .when((state) => settleBookings(state, NOW_MS + 20 * MINUTE_MS))
      .thenEvents([
        { type: 'ReservationStarted', locker: 'A', data: { reservationId: R1, locker: 'A', startedAt: at(5) } },
        { type: 'ReservationCompleted', locker: 'A', data: { reservationId: R1, endedAt: at(15), endedBy: 'unit' } },
      ]);
  });
});
