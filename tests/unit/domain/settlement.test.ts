import { describe, expect, test } from 'bun:test';
import { binds, OVERDUE_ALLOWANCE_MS, overlaps, periodOf } from '../../../domain/allocation.ts';
import type { EventDraft } from '../../../domain/envelope.ts';
import { dueAtMs, NO_SHOW_GRACE_MS, settle } from '../../../domain/settlement.ts';
import type { UnitState } from '../../../domain/unit.ts';
import { from, given, type Past, withDecision } from '../../support/given.ts';
import {
  ALICE,
  at,
  atMs,
  BOB,
  completed,
  confirmed,
  DAY_MS,
  givenBack,
  HOUR_MS,
  held,
  MINUTE_MS,
  NOW_MS,
  R1,
  R2,
  R3,
  registered,
  registeredWith,
  started,
  taken,
} from './scene.ts';

const now = (state: UnitState) => settle(state, NOW_MS);
const later = (minutes: number) => (state: UnitState) => settle(state, atMs(minutes));

const expired = (reason: 'hold' | 'no-show'): EventDraft => ({
  type: 'ReservationExpired',
  locker: 'A',
  data: { reservationId: R1, reason },
});
const startedAt = (locker: string, minutes: number): EventDraft => ({
  type: 'ReservationStarted',
  locker,
  data: { reservationId: R1, locker, startedAt: at(minutes) },
});
const completedAt = (locker: string, minutes: number): EventDraft => ({
  type: 'ReservationCompleted',
  locker,
  data: { reservationId: R1, endedAt: at(minutes), endedBy: 'unit' },
});
const conflict = (resolution: 'moved' | 'rejected', reservationId = R1): EventDraft => ({
  type: 'ReservationConflictDetected',
  locker: 'A',
  data: { reservationId, locker: 'A', rentalId: 'rental-A', resolution },
});
const moved = (toLocker: string, size: 'S' | 'M' | 'L' | 'XL', reservationId = R1): EventDraft => ({
  type: 'ReservationMoved',
  locker: toLocker,
  data: { reservationId, fromLocker: 'A', toLocker, size, reason: 'Locker A was taken at the screen.' },
});
const rejected = (reservationId = R1): EventDraft => ({
  type: 'ReservationRejected',
  locker: 'A',
  data: { reservationId, reason: 'Locker A was taken at the screen.' },
});

/** Folds what was settled and settles again, at the same moment. */
function again(state: UnitState, nowMs = NOW_MS): readonly EventDraft[] {
  return settle(withDecision(state, settle(state, nowMs), { commandId: 'settle', atMs: nowMs }), nowMs);
}

test('there is nothing to settle at a unit that nobody registered', () => {
  given().when(now).thenNothing();
});

describe('time', () => {
  test('ends a hold at the moment that it named', () => {
    given(registered, held({ holdExpiresAt: at(0) }))
      .when((state) => settle(state, NOW_MS - 1))
      .thenNothing();
    given(registered, held({ holdExpiresAt: at(0) }))
      .when(now)
      .thenEvents([expired('hold')]);
  });

  test('ends a confirmed reservation that nobody used, after the grace', () => {
    const dueMs = atMs(60) + NO_SHOW_GRACE_MS;
    given(registered, held(), confirmed())
      .when((state) => settle(state, dueMs - 1))
      .thenNothing();
    given(registered, held(), confirmed())
      .when((state) => settle(state, dueMs))
      .thenEvents([expired('no-show')]);
  });

  test.each([
    ['held', [held()], atMs(9)],
    ['confirmed', [held(), confirmed()], atMs(60) + NO_SHOW_GRACE_MS],
    ['active', [held(), confirmed(), started()], undefined],
    ['completed', [held(), confirmed(), started(), completed()], undefined],
  ] as const)('next changes a %s one when it says so', (_, past, due) => {
    const { state } = given(registered, ...past);
    const reservation = state.booking.reservations[R1];
    expect(reservation === undefined ? Number.NaN : dueAtMs(reservation)).toBe(due);
  });

  test('never ends what is in use', () => {
    given(registered, held(), confirmed(), started())
      .when((state) => settle(state, NOW_MS + 365 * DAY_MS))
      .thenNothing();
  });
});

describe('the unit is followed', () => {
  const use = (locker: string) => taken(locker, { fromMin: -9, untilMin: 60, reservationId: R1 });

  test('when the rental started there', () => {
    given(registered, held(), confirmed(), use('A'))
      .when(now)
      .thenEvents([startedAt('A', -9)]);
  });

  test('when it started in another locker than booked', () => {
    const { state } = given(registered, held(), confirmed(), use('B'));
    from(state)
      .when(now)
      .thenEvents([startedAt('B', -9)]);
    const after = withDecision(state, now(state), { commandId: 's', atMs: NOW_MS });
    expect(after.booking.reservations[R1]).toMatchObject({ status: 'active', locker: 'B' });
  });

  test('when it turns out that an open rental is in another locker', () => {
    given(registered, held(), confirmed(), started(), use('C'))
      .when(now)
      .thenEvents([
        {
          type: 'ReservationMoved',
          locker: 'C',
          data: { reservationId: R1, fromLocker: 'A', toLocker: 'C', size: 'M', reason: 'The unit gave locker C.' },
        },
      ]);
    given(registered, held(), confirmed(), started(), use('unheard-of'))
      .when(now)
      .thenEvents([expect.objectContaining({ data: expect.objectContaining({ toLocker: 'unheard-of', size: 'S' }) })]);
  });

  test('when it ended there', () => {
    given(registered, held(), confirmed(), started(), use('A'), givenBack('A', -1, R1))
      .when(now)
      .thenEvents([completedAt('A', -1)]);
  });

  test('when it started and ended while nobody heard of it', () => {
    given(registered, held(), confirmed(), use('A'), givenBack('A', -1, R1))
      .when(now)
      .thenEvents([startedAt('A', -9), completedAt('A', -1)]);
  });

  test.each([
    ['cancelled', [confirmed(), { type: 'ReservationCancelled', data: { reservationId: R1 } }]],
    ['expired', [confirmed(), { type: 'ReservationExpired', data: { reservationId: R1, reason: 'no-show' } }]],
    ['rejected', [confirmed(), { type: 'ReservationRejected', data: { reservationId: R1, reason: 'taken' } }]],
    ['never confirmed', []],
  ] as const)('when it was redeemed there, though it was %s here', (_, past: readonly Past[]) => {
    given(registered, held(), ...past, use('B'))
      .when(now)
      .thenEvents([startedAt('B', -9)]);
    given(registered, held(), ...past, use('B'), givenBack('B', -1, R1))
      .when(now)
      .thenEvents([startedAt('B', -9), completedAt('B', -1)]);
  });

  test('with the same outcome whether its log came in one piece or in two', () => {
    // Offline, a walk-up took the reserved locker, and the unit gave the customer the only other one.
    const before = [registeredWith({ id: 'A', size: 'S' }, { id: 'B', size: 'S' }), held(), confirmed()];
    const others = [held({ reservationId: R2, customer: BOB, locker: 'B' }), confirmed(R2, 'B')];
    const walkUp = taken('A', { fromMin: -20, untilMin: 60 });
    const whole = given(...before, ...others, walkUp, use('B'));
    const once = withDecision(whole.state, now(whole.state), { commandId: 's1', atMs: NOW_MS });
    const first = given(...before, ...others, walkUp).state;
    const half = withDecision(first, now(first), { commandId: 's1', atMs: NOW_MS });
    expect(half.booking.reservations[R1]?.status).toBe('rejected');
    const full = given(...before, ...others, walkUp, ...now(first), use('B')).state;
    const twice = withDecision(full, now(full), { commandId: 's2', atMs: NOW_MS });
    for (const state of [once, twice]) {
      expect(state.booking.reservations[R1]).toMatchObject({ status: 'active', locker: 'B' });
      expect(state.booking.reservations[R2]?.status).toBe('rejected');
    }
  });

  test('but what was completed stays completed', () => {
    given(registered, held(), confirmed(), started(), completed(), use('A')).when(now).thenNothing();
  });
});

describe('a locker that was taken at the screen', () => {
  const walkUp = taken('A', { fromMin: -20, untilMin: 30 });

  test.each([
    ['held', []],
    ['confirmed', [confirmed()]],
  ])('moves a %s reservation to a free one of the same size', (_, past) => {
    given(registered, held(), ...past, walkUp)
      .when(now)
      .thenEvents([conflict('moved'), moved('B', 'S')]);
  });

  test('moves it to the smallest that is larger when there is no other', () => {
    given(
      registeredWith({ id: 'A', size: 'S' }, { id: 'X', size: 'XL' }, { id: 'L', size: 'L' }),
      held(),
      confirmed(),
      walkUp,
    )
      .when(now)
      .thenEvents([conflict('moved'), moved('L', 'L')]);
  });

  test('never moves it to a smaller one', () => {
    given(registeredWith({ id: 'A', size: 'M' }, { id: 'B', size: 'S' }), held({ size: 'M' }), confirmed(), walkUp)
      .when(now)
      .thenEvents([conflict('rejected'), rejected()]);
  });

  test('moves it back to its own size when the larger one is taken too', () => {
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

  test('costs the reservation when nothing is free', () => {
    given(registeredWith({ id: 'A', size: 'S' }), held(), confirmed(), walkUp)
      .when(now)
      .thenEvents([conflict('rejected'), rejected()]);
  });

  test.each([
    ['out of service', [{ type: 'LockerTakenOutOfService', data: { id: 'B' } }]],
    ['promised to another', [held({ reservationId: R2, locker: 'B' }), confirmed(R2, 'B')]],
    ['taken at the screen too', [taken('B', { fromMin: -9, untilMin: 30 })]],
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

  test('moves two that follow one another to the same locker', () => {
    const long = taken('A', { fromMin: -20, untilMin: 90 });
    const past = [held(), confirmed(), held({ reservationId: R2, from: at(60), until: at(120) }), confirmed(R2)];
    given(registered, ...past, long)
      .when(now)
      .thenEvents([conflict('moved'), moved('B', 'S'), conflict('moved', R2), moved('B', 'S', R2)]);
  });

  test('moves one and gives the other up when only one place is left', () => {
    const past = [held(), confirmed(), held({ reservationId: R2, from: at(20), until: at(80) }), confirmed(R2)];
    given(registeredWith({ id: 'A', size: 'S' }, { id: 'B', size: 'S' }), ...past, walkUp)
      .when(now)
      .thenEvents([conflict('moved'), moved('B', 'S'), conflict('rejected', R2), rejected(R2)]);
  });

  test('moves it to the place that another has just left, as the same log tells', () => {
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
    ['is its own', held(), taken('A', { fromMin: -1, untilMin: 60, reservationId: R1 })],
    ['ended already', held(), [walkUp, givenBack('A', -2)]],
  ] as const)('is no conflict when the rental %s', (_, reservation, rental) => {
    const { state } = given(registered, reservation, confirmed(), ...[rental].flat());
    expect(settle(state, NOW_MS).filter(({ type }) => type === 'ReservationConflictDetected')).toEqual([]);
  });

  test('is no conflict for a period that has passed', () => {
    given(registered, held(), confirmed(), taken('A', { fromMin: -20, untilMin: 600 }))
      .when(later(60))
      .thenNothing();
  });

  test('ends a hold that has run out rather than moving it', () => {
    given(registered, held({ holdExpiresAt: at(0) }), walkUp)
      .when(now)
      .thenEvents([expired('hold')]);
  });
});

describe('somebody over time', () => {
  const late = taken('A', { fromMin: -60, untilMin: -1 });

  test('makes a reservation move as soon as it is in the way', () => {
    given(registered, held(), confirmed(), late)
      .when(now)
      .thenEvents([conflict('moved'), moved('B', 'S')]);
  });

  test('costs nobody the reservation before the allowance is over', () => {
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

describe('a repeat', () => {
  const scenes: Record<string, readonly Past[]> = {
    hold: [held({ holdExpiresAt: at(0) })],
    'no-show': [held({ from: at(-2_000), until: at(-1_900) }), confirmed()],
    start: [held(), confirmed(), taken('A', { fromMin: -1, untilMin: 60, reservationId: R1 })],
    'start elsewhere': [held(), confirmed(), taken('C', { fromMin: -1, untilMin: 60, reservationId: R1 })],
    'move to where it is': [
      held(),
      confirmed(),
      started(),
      taken('C', { fromMin: -1, untilMin: 60, reservationId: R1 }),
    ],
    end: [held(), confirmed(), taken('A', { fromMin: -9, untilMin: 60, reservationId: R1 }), givenBack('A', -1, R1)],
    move: [held(), confirmed(), taken('A', { fromMin: -1, untilMin: 60 })],
    'move of two': [
      held(),
      confirmed(),
      held({ reservationId: R2, from: at(20), until: at(80) }),
      confirmed(R2),
      taken('A', { fromMin: -1, untilMin: 60 }),
    ],
    reject: [
      held(),
      confirmed(),
      held({ reservationId: R2, locker: 'B' }),
      held({ reservationId: R3, locker: 'C' }),
      taken('A', { fromMin: -1, untilMin: 60 }),
    ],
    revival: [
      held(),
      confirmed(),
      { type: 'ReservationCancelled', data: { reservationId: R1 } },
      taken('A', { fromMin: -1, untilMin: 60, reservationId: R1 }),
    ],
  };

  test.each(Object.entries(scenes))('finds nothing to do after: %s', (_, past) => {
    const { state } = given(registered, ...past);
    expect(now(state)).not.toEqual([]);
    expect(again(state)).toEqual([]);
  });
});

test('what was settled leaves no two reservations in one locker at one time', () => {
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
  const left = Object.values(after.booking.reservations).filter((reservation) => binds(reservation, NOW_MS));
  expect(left.length).toBeGreaterThan(3);
  for (const one of left) {
    for (const other of left) {
      if (one === other || one.locker !== other.locker) continue;
      expect(overlaps(periodOf(one), periodOf(other))).toBe(false);
    }
  }
  expect(NO_SHOW_GRACE_MS).toBeGreaterThan(HOUR_MS);
});
