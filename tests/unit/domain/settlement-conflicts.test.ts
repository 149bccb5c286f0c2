import { describe, expect, test } from 'bun:test';
import { blocksLocker, freeLockers, OVERDUE_ALLOWANCE_MS, periodOf } from '../../../domain/booking/allocation.ts';
import { NO_SHOW_GRACE_MS, settleBookings } from '../../../domain/booking/settlement.ts';
import type { EventDraft } from '../../../domain/events/drafts.ts';
import { overlaps } from '../../../domain/period.ts';
import { requireUnit } from '../../../domain/registry/registry.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { from, given, withDecision } from '../../support/given.ts';
import {
  ALICE,
  at,
  atMs,
  BOB,
  confirmed,
  givenBack,
  HOUR_MS,
  held,
  MINUTE_MS,
  NOW_MS,
  R1,
  R2,
  registered,
  registeredWith,
  taken,
} from '../../support/scene.ts';

const now = (state: UnitState) => settleBookings(state, NOW_MS);

const later = (minutes: number) => (state: UnitState) => settleBookings(state, atMs(minutes));

const expired = (reason: 'hold' | 'no-show'): EventDraft => ({
  type: 'ReservationExpired',
  locker: 'A',
  data: { reservationId: R1, reason },
});

const conflict = (resolution: 'moved' | 'rejected', reservationId = R1): EventDraft => ({
  type: 'ReservationConflictDetected',
  locker: 'A',
  data: { reservationId, locker: 'A', rentalId: 'rental-A', resolution },
});

const moved = (toLocker: string, size: 'S' | 'M' | 'L' | 'XL', reservationId = R1): EventDraft => ({
  type: 'ReservationMoved',
  locker: toLocker,
  data: { reservationId, fromLocker: 'A', toLocker, size, reason: 'A walk-up rental occupies locker A.' },
});

const rejected = (reservationId = R1): EventDraft => ({
  type: 'ReservationRejected',
  locker: 'A',
  data: { reservationId, reason: 'A walk-up rental occupies locker A.' },
});

describe('a walk-up rental in a reserved locker', () => {
  const walkUp = taken('A', { fromMin: -20, untilMin: 30 });

  test.each([
    ['held', []],
    ['confirmed', [confirmed()]],
  ])('moves a %s reservation to a free one of the same size', (_, past) => {
    given(registered, held(), ...past, walkUp)
      .when(now)
      .thenEvents([conflict('moved'), moved('B', 'S')]);
  });

  test('moves the reservation to the smallest larger locker when none of its size is free', () => {
    given(
      registeredWith({ id: 'A', size: 'S' }, { id: 'X', size: 'XL' }, { id: 'L', size: 'L' }),
      held(),
      confirmed(),
      walkUp,
    )
      .when(now)
      .thenEvents([conflict('moved'), moved('L', 'L')]);
  });

  test('never moves the reservation to a smaller locker', () => {
    given(registeredWith({ id: 'A', size: 'M' }, { id: 'B', size: 'S' }), held({ size: 'M' }), confirmed(), walkUp)
      .when(now)
      .thenEvents([conflict('rejected'), rejected()]);
  });

  test('moves the reservation back to its own size when the larger locker is taken too', () => {
    given(
      registeredWith({ id: 'A', size: 'S' }, { id: 'B', size: 'S' }, { id: 'C', size: 'M' }),
      held(),
      confirmed(),
      { type: 'ReservationMoved', data: { reservationId: R1, fromLocker: 'B', toLocker: 'C', size: 'M', reason: '' } },
      taken('A', { fromMin: -20, untilMin: 30 }),
      taken('C', { fromMin: -20, untilMin: 30 }),
    )
      .when(now)
      .thenEvents([
        expect.objectContaining({ type: 'ReservationConflictDetected' }),
        expect.objectContaining({ data: expect.objectContaining({ fromLocker: 'C', toLocker: 'B', size: 'S' }) }),
      ]);
  });

  test('ends the reservation when no locker is free', () => {
    given(registeredWith({ id: 'A', size: 'S' }), held(), confirmed(), walkUp)
      .when(now)
      .thenEvents([conflict('rejected'), rejected()]);
  });

  test.each([
    ['out of service', [{ type: 'LockerTakenOutOfService', data: { id: 'B' } }]],
    ['reserved for another customer', [held({ reservationId: R2, locker: 'B' }), confirmed(R2, 'B')]],
    ['rented at the screen too', [taken('B', { fromMin: -9, untilMin: 30 })]],
  ] as const)('does not move it to one that is %s', (_, past) => {
    const { state } = given(
      registeredWith({ id: 'A', size: 'S' }, { id: 'B', size: 'S' }),
      held(),
      confirmed(),
      walkUp,
      ...past,
    );
    from(state)
      .when(now)
      .thenEvents([conflict('rejected'), rejected()]);
  });

  test('moves two reservations to two lockers', () => {
    const past = [held(), confirmed(), held({ reservationId: R2, from: at(20), until: at(80) }), confirmed(R2)];
    given(registered, ...past, walkUp)
      .when(now)
      .thenEvents([conflict('moved'), moved('B', 'S'), conflict('moved', R2), moved('C', 'M', R2)]);
  });

  test('moves two reservations with consecutive periods to the same locker', () => {
    const long = taken('A', { fromMin: -20, untilMin: 90 });
    const past = [held(), confirmed(), held({ reservationId: R2, from: at(60), until: at(120) }), confirmed(R2)];
    given(registered, ...past, long)
      .when(now)
      .thenEvents([conflict('moved'), moved('B', 'S'), conflict('moved', R2), moved('B', 'S', R2)]);
  });

  test('moves one reservation and ends the other when only one locker is free', () => {
    const past = [held(), confirmed(), held({ reservationId: R2, from: at(20), until: at(80) }), confirmed(R2)];
    given(registeredWith({ id: 'A', size: 'S' }, { id: 'B', size: 'S' }), ...past, walkUp)
      .when(now)
      .thenEvents([conflict('moved'), moved('B', 'S'), conflict('rejected', R2), rejected(R2)]);
  });

  test('moves the reservation to a locker whose reservation is completed in the same settlement', () => {
    given(
      registeredWith({ id: 'A', size: 'S' }, { id: 'B', size: 'S' }),
      held(),
      confirmed(),
      held({ reservationId: R2, customer: BOB, locker: 'B', from: at(-60), until: at(60) }),
      confirmed(R2, 'B'),
      taken('B', { fromMin: -50, untilMin: 60, reservationId: R2 }),
      givenBack('B', -1, R2),
      walkUp,
    )
      .when(now)
      .thenEvents([
        expect.objectContaining({ type: 'ReservationStarted' }),
        expect.objectContaining({ type: 'ReservationCompleted' }),
        conflict('moved'),
        moved('B', 'S'),
      ]);
  });

  test.each([
    ['ends before it begins', held({ from: at(30), until: at(90) }), walkUp],
    ['is of the same reservation', held(), taken('A', { fromMin: -1, untilMin: 60, reservationId: R1 })],
    ['has ended', held(), [walkUp, givenBack('A', -2)]],
  ] as const)('is no conflict when the rental %s', (_, reservation, rental) => {
    const { state } = given(registered, reservation, confirmed(), ...[rental].flat());
    expect(settleBookings(state, NOW_MS).filter(({ type }) => type === 'ReservationConflictDetected')).toEqual([]);
  });

  test('is no conflict with a period that has passed', () => {
    given(registered, held(), confirmed(), taken('A', { fromMin: -20, untilMin: 600 }))
      .when(later(60))
      .thenNothing();
  });

  test('ends an expired hold instead of moving it', () => {
    given(registered, held({ holdExpiresAt: at(0) }), walkUp)
      .when(now)
      .thenEvents([expired('hold')]);
  });
});

test('a rejection in the same settlement may push a finished reservation out of the state', () => {
  // The state keeps 32 of them, and 4 of each locker: the rejection of R1 drops the first one before settlement reaches it.
  const finished = Array.from({ length: 32 }, (_, index) => {
    const reservationId = `r-${index}`;
    const other = held({ reservationId, from: at(200), until: at(260) });
    return [other, confirmed(reservationId), { type: 'ReservationCancelled' as const, data: { reservationId } }];
  }).flat();
  given(
    registeredWith({ id: 'A', size: 'S' }),
    ...finished,
    held(),
    confirmed(),
    taken('A', { fromMin: -20, untilMin: 30 }),
  )
    .when(now)
    .thenEvents([conflict('rejected'), rejected()]);
});

describe('free lockers', () => {
  const { state } = given(registeredWith({ id: 'A', size: 'S' }, { id: 'B', size: 'S' }), held(), confirmed());
  const freeIds = (except?: string) =>
    freeLockers(requireUnit(state.registry), state, { fromMs: atMs(0), untilMs: atMs(60) }, NOW_MS, except).certain.map(
      ({ id }) => id,
    );

  test('include the locker of the reservation that does not count', () => {
    expect(freeIds()).toEqual(['B']);
    expect(freeIds(R2)).toEqual(['B']);
    expect(freeIds(R1)).toEqual(['A', 'B']);
  });
});

describe('an overdue rental', () => {
  const late = taken('A', { fromMin: -60, untilMin: -1 });

  test('moves a reservation of its locker once that period begins', () => {
    given(registered, held(), confirmed(), late)
      .when(now)
      .thenEvents([conflict('moved'), moved('B', 'S')]);
  });

  test('ends no reservation before the overtime allowance is over', () => {
    const { state } = given(registeredWith({ id: 'A', size: 'S' }), held(), confirmed(), late);
    const allowanceMin = OVERDUE_ALLOWANCE_MS / MINUTE_MS;
    from(state).when(now).thenNothing();
    from(state)
      .when(later(allowanceMin - 1))
      .thenNothing();
    from(state)
      .when(later(allowanceMin))
      .thenEvents([conflict('rejected'), rejected()]);
  });
});

test('after settlement no two reservations share a locker at one time', () => {
  const busy = Array.from({ length: 6 }, (_, index) => {
    const reservationId = `r-${index}`;
    const half = held({
      reservationId,
      customer: ALICE,
      from: at(index * 30),
      until: at(index * 30 + 60),
      locker: index % 2 === 0 ? 'A' : 'B',
    });
    return [half, confirmed(reservationId, half.data.locker)];
  }).flat();
  const { state } = given(registered, ...busy, taken('A', { fromMin: -5, untilMin: 200 }));
  const after = withDecision(state, now(state), { commandId: 's', atMs: NOW_MS });
  const left = after.booking.open.filter((reservation) => blocksLocker(reservation, NOW_MS));
  expect(left.length).toBeGreaterThan(3);
  for (const one of left) {
    for (const other of left) {
      if (one === other || one.locker !== other.locker) continue;
      expect(overlaps(periodOf(one), periodOf(other))).toBe(false);
    }
  }
  expect(NO_SHOW_GRACE_MS).toBeGreaterThan(HOUR_MS);
});
