/** Which finished reservations a unit's state keeps: those that were paid for are not displaced by those that were not. */

import { expect, test } from 'bun:test';
import {
  MAX_FINISHED_RESERVATIONS,
  MAX_UNUSED_RESERVATIONS_PER_LOCKER,
} from '../../../domain/booking/finished-reservations.ts';
import { settleBookings } from '../../../domain/booking/settlement.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { given, type Past, unitAfter } from '../../support/given.ts';
import {
  at,
  completed,
  confirmed,
  held,
  NOW_MS,
  R1,
  registered,
  registeredWith,
  started,
  taken,
} from '../../support/scene.ts';

const cancelled = (reservationId: string): Past => ({ type: 'ReservationCancelled', data: { reservationId } });
const ids = ({ booking }: UnitState) => booking.finished.map(({ id }) => id);
const many = (count: number, past: (reservationId: string, index: number) => readonly Past[]): Past[] =>
  Array.from({ length: count }, (_, index) => past(`r-${index}`, index)).flat();

const abandoned = many(500, (reservationId) => [
  held({ reservationId }),
  { type: 'ReservationExpired', data: { reservationId, reason: 'hold' } },
]);

test('a late proof of use counts for a paid reservation, however many holds were abandoned since', () => {
  const use = taken('A', { fromMin: 1, untilMin: 60, reservationId: R1 });
  given(registered, held(), confirmed(), cancelled(R1), ...abandoned, use)
    .when((state) => settleBookings(state, NOW_MS))
    .thenEvents([
      {
        type: 'ReservationConflictDetected',
        locker: 'A',
        data: { reservationId: R1, locker: 'A', resolution: 'used' },
      },
      { type: 'ReservationStarted', locker: 'A', data: { reservationId: R1, locker: 'A', startedAt: at(1) } },
    ]);
});

test('reservations that were paid for and not used are kept for each locker of a large unit', () => {
  const lockers = Array.from({ length: 100 }, (_, index) => ({ id: `L${index}`, size: 'S' as const }));
  const past = many(1_000, (reservationId, index) => {
    const locker = `L${index % 100}`;
    return [held({ reservationId, locker }), confirmed(reservationId, locker), cancelled(reservationId)];
  });
  const kept = ids(unitAfter([registeredWith(...lockers), ...past]));
  expect(kept).toHaveLength(100 * MAX_UNUSED_RESERVATIONS_PER_LOCKER);
  expect(kept.at(0)).toBe('r-600');
  expect(kept.at(-1)).toBe('r-999');
});

test('the reservations of one locker displace none of another', () => {
  const busy = many(200, (reservationId) => [
    held({ reservationId, locker: 'B' }),
    confirmed(reservationId, 'B'),
    cancelled(reservationId),
  ]);
  const kept = ids(unitAfter([registered, held(), confirmed(), cancelled(R1), ...busy]));
  expect(kept).toHaveLength(1 + MAX_FINISHED_RESERVATIONS);
  expect(kept.at(0)).toBe(R1);
  expect(kept.at(1)).toBe('r-168');
});

test('the number of kept reservations has a bound in each kind', () => {
  const used = many(100, (id) => [held({ reservationId: id }), confirmed(id), started(id), completed(id)]);
  const state = unitAfter([registered, ...abandoned, ...used]);
  expect(state.booking.finished.filter(({ status }) => status === 'expired')).toHaveLength(MAX_FINISHED_RESERVATIONS);
  expect(state.booking.finished.filter(({ status }) => status === 'completed')).toHaveLength(MAX_FINISHED_RESERVATIONS);
  expect(state.booking.finished).toHaveLength(2 * MAX_FINISHED_RESERVATIONS);
});
