import { describe, expect, test } from 'bun:test';
import { findReservation } from '../../../domain/booking/reservation.ts';
import { expiryAtMs, NO_SHOW_GRACE_MS, settleBookings } from '../../../domain/booking/settlement.ts';
import type { EventDraft } from '../../../domain/events/drafts.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { from, given, type Past, withDecision } from '../../support/given.ts';
import {
  at,
  atMs,
  BOB,
  completed,
  confirmed,
  DAY_MS,
  givenBack,
  held,
  NOW_MS,
  R1,
  R2,
  R3,
  registered,
  registeredWith,
  started,
  taken,
} from '../../support/scene.ts';

const now = (state: UnitState) => settleBookings(state, NOW_MS);

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

const usedAfterEnd = (locker: string): EventDraft => ({
  type: 'ReservationConflictDetected',
  locker,
  data: { reservationId: R1, locker, resolution: 'used' },
});

const completedAt = (locker: string, minutes: number): EventDraft => ({
  type: 'ReservationCompleted',
  locker,
  data: { reservationId: R1, endedAt: at(minutes), endedBy: 'unit' },
});

/** Folds what was settled and settles again, at the same moment. */
function again(state: UnitState, nowMs = NOW_MS): readonly EventDraft[] {
  return settleBookings(withDecision(state, settleBookings(state, nowMs), { commandId: 'settle', atMs: nowMs }), nowMs);
}

test('a unit that is not registered has nothing to settle', () => {
  given().when(now).thenNothing();
});

describe('the passage of time', () => {
  test('ends a hold at its expiresAt', () => {
    given(registered, held({ holdExpiresAt: at(0) }))
      .when((state) => settleBookings(state, NOW_MS - 1))
      .thenNothing();
    given(registered, held({ holdExpiresAt: at(0) }))
      .when(now)
      .thenEvents([expired('hold')]);
  });

  test('ends a confirmed reservation as a no-show after the grace', () => {
    const dueMs = atMs(60) + NO_SHOW_GRACE_MS;
    given(registered, held(), confirmed())
      .when((state) => settleBookings(state, dueMs - 1))
      .thenNothing();
    given(registered, held(), confirmed())
      .when((state) => settleBookings(state, dueMs))
      .thenEvents([expired('no-show')]);
  });

  test.each([
    ['held', [held()], atMs(9)],
    ['confirmed', [held(), confirmed()], atMs(60) + NO_SHOW_GRACE_MS],
    ['active', [held(), confirmed(), started()], undefined],
    ['completed', [held(), confirmed(), started(), completed()], undefined],
  ] as const)('is next due for a %s reservation at its deadline', (_, past, due) => {
    const { state } = given(registered, ...past);
    const reservation = findReservation(state.booking, R1);
    expect(reservation === undefined ? Number.NaN : expiryAtMs(reservation)).toBe(due);
  });

  test('never ends a reservation whose rental is open', () => {
    given(registered, held(), confirmed(), started())
      .when((state) => settleBookings(state, NOW_MS + 365 * DAY_MS))
      .thenNothing();
  });
});

describe('the log of the unit decides', () => {
  const use = (locker: string) => taken(locker, { fromMin: -9, untilMin: 60, reservationId: R1 });

  test('that a rental has started', () => {
    given(registered, held(), confirmed(), use('A'))
      .when(now)
      .thenEvents([startedAt('A', -9)]);
  });

  test('that a rental has started in another locker than booked', () => {
    const { state } = given(registered, held(), confirmed(), use('B'));
    from(state)
      .when(now)
      .thenEvents([startedAt('B', -9)]);
    const after = withDecision(state, now(state), { commandId: 's', atMs: NOW_MS });
    expect(findReservation(after.booking, R1)).toMatchObject({ status: 'active', locker: 'B' });
  });

  test('that an open rental is in another locker', () => {
    given(registered, held(), confirmed(), started(), use('C'))
      .when(now)
      .thenEvents([
        {
          type: 'ReservationMoved',
          locker: 'C',
          data: { reservationId: R1, fromLocker: 'A', toLocker: 'C', size: 'M', reason: 'The unit assigned locker C.' },
        },
      ]);
    given(registered, held(), confirmed(), started(), use('unheard-of'))
      .when(now)
      .thenEvents([expect.objectContaining({ data: expect.objectContaining({ toLocker: 'unheard-of', size: 'S' }) })]);
  });

  test('that a rental has ended', () => {
    given(registered, held(), confirmed(), started(), use('A'), givenBack('A', -1, R1))
      .when(now)
      .thenEvents([completedAt('A', -1)]);
  });

  test('that a rental has started and ended while the unit was offline', () => {
    given(registered, held(), confirmed(), use('A'), givenBack('A', -1, R1))
      .when(now)
      .thenEvents([startedAt('A', -9), completedAt('A', -1)]);
  });

  test.each([
    ['cancelled', [confirmed(), { type: 'ReservationCancelled', data: { reservationId: R1 } }]],
    ['expired', [confirmed(), { type: 'ReservationExpired', data: { reservationId: R1, reason: 'no-show' } }]],
    ['rejected', [confirmed(), { type: 'ReservationRejected', data: { reservationId: R1, reason: 'taken' } }]],
  ] as const)('when it was redeemed there, though it was %s here, and records the conflict', (_, past) => {
    given(registered, held(), ...past, use('B'))
      .when(now)
      .thenEvents([usedAfterEnd('B'), startedAt('B', -9)]);
    given(registered, held(), ...past, use('B'), givenBack('B', -1, R1))
      .when(now)
      .thenEvents([usedAfterEnd('B'), startedAt('B', -9), completedAt('B', -1)]);
  });

  test('when it was redeemed there, though it was never confirmed here', () => {
    given(registered, held(), use('B'))
      .when(now)
      .thenEvents([startedAt('B', -9)]);
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
    expect(findReservation(half.booking, R1)?.status).toBe('rejected');
    const full = given(...before, ...others, walkUp, ...now(first), use('B')).state;
    const twice = withDecision(full, now(full), { commandId: 's2', atMs: NOW_MS });
    for (const state of [once, twice]) {
      expect(findReservation(state.booking, R1)).toMatchObject({ status: 'active', locker: 'B' });
      expect(findReservation(state.booking, R2)?.status).toBe('rejected');
    }
  });

  test('but a completed reservation stays completed', () => {
    given(registered, held(), confirmed(), started(), completed(), use('A')).when(now).thenNothing();
  });
});

describe('a unit that was wiped while a reservation was in use, and opened again for it', () => {
  const wiped: Past = {
    type: 'UnitStateReported',
    data: { reason: 'new-epoch', configurationHash: 'c', lockers: [{ id: 'A', door: 'closed' }] },
    epoch: '018f0000-0000-7000-8000-000000000002',
    atMs: atMs(-5),
  };
  const use = (minutes: number, id: string): Past => ({
    ...taken('A', { fromMin: minutes, untilMin: 60, id, reservationId: R1 }),
    ...(id === 'second' ? { epoch: '018f0000-0000-7000-8000-000000000002' } : {}),
  });
  const before = [registered, held(), confirmed(), use(-9, 'first'), started(R1, 'A', -9), wiped];

  test('has the reservation in use, although the platform had ended it by the report', () => {
    const ended = given(...before);
    ended.when(now).thenEvents([completedAt('A', -5)]);
    const opened = [...before, ...now(ended.state), use(-2, 'second')];
    given(...opened)
      .when(now)
      .thenEvents([usedAfterEnd('A'), startedAt('A', -2)]);
    const revived = given(...opened, ...now(given(...opened).state)).state;
    const reservation = findReservation(revived.booking, R1);
    expect(reservation).toMatchObject({ status: 'active', startedAt: at(-2) });
    expect(reservation?.endedAt).toBeUndefined();
    expect(now(revived)).toEqual([]);
  });

  test('ends it when the customer gives the locker back', () => {
    const past = [...before, ...now(given(...before).state), use(-2, 'second')];
    const ended = { ...givenBack('A', -1, R1, 'second'), epoch: '018f0000-0000-7000-8000-000000000002' };
    const active = [...past, ...now(given(...past).state), ended];
    given(...active)
      .when(now)
      .thenEvents([completedAt('A', -1)]);
  });

  test('leaves it ended when the customer or an operator had ended it', () => {
    for (const endedBy of ['customer', 'operator'] as const) {
      const end: Past = {
        type: 'ReservationCompleted',
        locker: 'A',
        data: { reservationId: R1, endedAt: at(-4), endedBy },
      };
      given(...before, end, use(-2, 'second'))
        .when(now)
        .thenNothing();
    }
  });
});

describe('a repeated settlement', () => {
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

  test.each(Object.entries(scenes))('decides nothing after: %s', (_, past) => {
    const { state } = given(registered, ...past);
    expect(now(state)).not.toEqual([]);
    expect(again(state)).toEqual([]);
  });
});
