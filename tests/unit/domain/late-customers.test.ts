/** Customers who are late, and lockers that do not open: when the platform acts by itself, and which locker it gives. */

import { describe, expect, test } from 'bun:test';
import { holdLocker, recordOpenAnswer } from '../../../domain/booking/customer-decisions.ts';
import { nextSettlementAtMs, settleBookings } from '../../../domain/booking/settlement.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { given, type Past, withDecision, withPast } from '../../support/given.ts';
import {
  at,
  atMs,
  BOB,
  command,
  configured,
  confirmed,
  givenBack,
  HOUR_MS,
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

/** Alice has A until 12:00 (now) and Bob has paid for A from then on. */
const ALICE_IN_A = [
  held({ from: at(-120), until: at(0) }),
  confirmed(),
  taken('A', { fromMin: -110, untilMin: 0, reservationId: R1 }),
  started(R1, 'A', -110),
];
const BOB_FROM_NOON = [
  held({ reservationId: R2, customer: BOB, from: at(0), until: at(120), holdExpiresAt: at(-50) }),
  confirmed(R2),
];
const ONE_LOCKER = registeredWith({ id: 'A', size: 'S' });

function settledAt(state: UnitState, nowMs: number): UnitState {
  return withDecision(state, settleBookings(state, nowMs), { commandId: `settle-${nowMs}`, atMs: nowMs });
}

function settlementTypes(state: UnitState, nowMs: number): string[] {
  return settleBookings(state, nowMs).map(({ type }) => type);
}

describe('a customer who does not give a locker back', () => {
  const { state } = given(registered, ...ALICE_IN_A, ...BOB_FROM_NOON);

  test('makes the next one move to a free locker at the moment at which that period begins', () => {
    const before = settledAt(state, atMs(-1));
    expect(before).toBe(state);
    expect(nextSettlementAtMs(before, atMs(-1))).toBe(NOW_MS);
    const moved = settleBookings(before, NOW_MS);
    expect(moved).toEqual([
      {
        type: 'ReservationConflictDetected',
        locker: 'A',
        data: { reservationId: R2, locker: 'A', rentalId: 'rental-A', resolution: 'moved' },
      },
      {
        type: 'ReservationMoved',
        locker: 'B',
        data: { reservationId: R2, fromLocker: 'A', toLocker: 'B', size: 'S', reason: 'Locker A was not given back.' },
      },
    ]);
  });

  test('makes the next one move also while the unit has not reported the use', () => {
    const unreported = given(
      registered,
      held({ from: at(-120), until: at(0) }),
      confirmed(),
      started(R1, 'A', -110),
      ...BOB_FROM_NOON,
    ).state;
    expect(settlementTypes(unreported, NOW_MS)).toEqual(['ReservationConflictDetected', 'ReservationMoved']);
  });

  test('ends the next one 30 minutes after its start when no locker fits, and not as a no-show', () => {
    const full = given(ONE_LOCKER, ...ALICE_IN_A, ...BOB_FROM_NOON).state;
    expect(settleBookings(full, NOW_MS)).toEqual([]);
    expect(nextSettlementAtMs(full, NOW_MS)).toBe(atMs(30));
    expect(settlementTypes(full, atMs(30) - 1)).toEqual([]);
    expect(settlementTypes(full, atMs(30))).toEqual(['ReservationConflictDetected', 'ReservationRejected']);
  });

  test('ends a short reservation of the next one before its period is over', () => {
    const short = [
      held({ reservationId: R2, customer: BOB, from: at(0), until: at(15), holdExpiresAt: at(-50) }),
      confirmed(R2),
    ];
    const full = given(ONE_LOCKER, ...ALICE_IN_A, ...short).state;
    const dueMs = nextSettlementAtMs(full, NOW_MS);
    expect(dueMs).toBe(atMs(14));
    expect(settlementTypes(full, atMs(14))).toEqual(['ReservationConflictDetected', 'ReservationRejected']);
  });

  test('has given back in time when the log arrives in time', () => {
    const back = given(registered, ...ALICE_IN_A, ...BOB_FROM_NOON, givenBack('A', -3, R1)).state;
    expect(settlementTypes(back, NOW_MS)).toEqual(['ReservationCompleted']);
  });

  test('does not get the next hold that begins in 45 minutes a locker that is overdue while others are free', () => {
    const late = given(
      registered,
      held({ from: at(-120), until: at(-10) }),
      confirmed(),
      taken('A', { fromMin: -110, untilMin: -10, reservationId: R1 }),
      started(R1, 'A', -110),
    ).state;
    const [hold] = holdLocker(late, {
      ...command({ reservationId: R3, customer: BOB }),
      requested: { size: 'S' },
      from: at(45),
      until: at(105),
    });
    expect(hold?.locker).toBe('B');
  });
});

describe('a customer who tried to open', () => {
  const tried: Past = {
    type: 'LockerOpenRequested',
    data: { reservationId: R1, locker: 'A', commandId: 'o1', expiresAt: at(1) },
  };

  test('never ends as a no-show', () => {
    const { state } = given(registered, held(), confirmed(), tried);
    expect(settlementTypes(state, atMs(60) + 24 * HOUR_MS)).toEqual(['ReservationRejected']);
  });

  test('gets another locker when the unit says that it is occupied, although the platform knows of no rental', () => {
    const { state } = given(registered, held(), confirmed(), tried);
    const drafts = recordOpenAnswer(state, {
      reservationId: R1,
      commandId: 'o1',
      locker: 'A',
      result: 'failed',
      reason: 'occupied',
      nowMs: NOW_MS,
    });
    expect(drafts.map(({ type, locker }) => [type, locker])).toEqual([
      ['LockerOpenAnswered', 'A'],
      ['ReservationConflictDetected', 'A'],
      ['ReservationMoved', 'B'],
    ]);
  });

  test('moves on and never back to a locker that failed', () => {
    const failure = (locker: string, commandId: string): Past[] => [
      { type: 'LockerOpenRequested', data: { reservationId: R1, locker, commandId, expiresAt: at(1) } },
      {
        type: 'LockerOpenAnswered',
        data: { reservationId: R1, locker, commandId, result: 'failed', reason: 'jammed' },
        atMs: NOW_MS,
      },
    ];
    let { state } = given(registered, held(), confirmed(), ...failure('A', 'o1'));
    const visited: (string | undefined)[] = [];
    for (const next of ['o2', 'o3', 'o4']) {
      state = settledAt(state, NOW_MS);
      const locker = state.booking.open[0]?.locker ?? '';
      visited.push(locker);
      state = failure(locker, next).reduce(withPast, state);
    }
    // B and then C, and then no locker is left: the reservation waits at C until it is given up.
    expect(visited).toEqual(['B', 'C', 'C']);
    expect(nextSettlementAtMs(state, NOW_MS)).toBe(atMs(30));
    expect(settlementTypes(state, atMs(30))).toEqual(['ReservationConflictDetected', 'ReservationRejected']);
  });
});

describe('a doubtful locker', () => {
  const later = { ...command(), requested: { size: 'S' } as const, from: at(60), until: at(120) };
  const soon = { ...command(), requested: { locker: 'A' } as const, from: at(0), until: at(60) };
  const failedDoor: Past = { type: 'LockerOpenFailed', locker: 'A', data: { reason: 'jammed' } };
  const error: Past = { type: 'HardwareErrorRaised', locker: 'A', data: { code: 'lock-motor', message: '' } };

  test.each([
    ['a door that failed', [failedDoor]],
    ['a hardware error', [error]],
  ])('by %s is offered last, and not for a period that is about to begin', (_, past) => {
    given(registered, ...past)
      .when((state) => holdLocker(state, later))
      .thenEvents([expect.objectContaining({ type: 'ReservationHeld', locker: 'B' })]);
    given(ONE_LOCKER, ...past)
      .when((state) => holdLocker(state, later))
      .thenEvents([expect.objectContaining({ type: 'ReservationHeld', locker: 'A' })]);
    given(ONE_LOCKER, ...past)
      .when((state) => holdLocker(state, soon))
      .thenRefused('no-locker-free', /Locker A/);
  });

  test.each([
    ['its door opens', [failedDoor, { type: 'LockerOpened', locker: 'A', data: { cause: 'service' } }]],
    ['the error is cleared', [error, { type: 'HardwareErrorCleared', locker: 'A', data: { code: 'lock-motor' } }]],
  ] as const)('is offered as before when %s', (_, past) => {
    given(registered, ...past)
      .when((state) => holdLocker(state, soon))
      .thenEvents([expect.objectContaining({ locker: 'A' })]);
  });

  test('stays doubtful after a state report, which says nothing of errors', () => {
    const report: Past = {
      type: 'UnitStateReported',
      data: { reason: 'gap', configurationHash: 'c', lockers: [{ id: 'A', door: 'closed' }] },
    };
    given(ONE_LOCKER, error, failedDoor, report)
      .when((state) => holdLocker(state, soon))
      .thenRefused('no-locker-free', /Locker A/);
  });
});

test('a hold in the hours in which the unit is closed is refused with the hours', () => {
  const hours = [{ weekday: 1, opens: '08:00', closes: '13:00' }];
  given(registered, configured({ openingHours: hours }))
    .when((state) => holdLocker(state, { ...command(), requested: { size: 'S' }, from: at(0), until: at(60) }))
    .thenRefused('closed', /Monday from 08:00 to 13:00 \(Europe\/Berlin\)/, ['/from']);
});

test('a settlement of many reservations is made in chunks that each stand alone', () => {
  const holds = Array.from({ length: 600 }, (_, index) => {
    const from = at(200 + index * 60);
    return held({ reservationId: `r-${index}`, from, until: at(260 + index * 60) });
  });
  let { state } = given(registered, ...holds);
  const sizes: number[] = [];
  for (let drafts = settleBookings(state, atMs(10)); drafts.length > 0; drafts = settleBookings(state, atMs(10))) {
    sizes.push(drafts.length);
    state = withDecision(state, drafts, { commandId: `settle-${sizes.length}`, atMs: atMs(10) });
  }
  expect(sizes).toEqual([400, 200]);
  expect(state.booking.open).toEqual([]);
});
