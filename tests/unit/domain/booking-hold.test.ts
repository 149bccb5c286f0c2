import { describe, expect, test } from 'bun:test';
import { OVERDUE_ALLOWANCE_MS } from '../../../domain/booking/allocation.ts';
import {
  type HoldCommand,
  holdLocker,
  MAX_RESERVE_AHEAD_DAYS,
  PAST_TOLERANCE_MS,
} from '../../../domain/booking/customer-decisions.ts';
import type { EventDraft } from '../../../domain/events/drafts.ts';
import { toInstant } from '../../../domain/vocabulary.ts';
import { given } from '../../support/given.ts';
import {
  ALICE,
  at,
  atMs,
  BOB,
  command,
  completed,
  configured,
  confirmed,
  DAY_MS,
  givenBack,
  HOLD_TTL_S,
  HOUR_MS,
  held,
  MINUTE_MS,
  NOW_MS,
  R1,
  R2,
  registered,
  registeredWith,
  started,
  taken,
} from '../../support/scene.ts';

function holding(changes: Partial<HoldCommand> = {}): HoldCommand {
  return {
    ...command({ reservationId: R2, customer: BOB }),
    requested: { size: 'S' },
    from: at(0),
    until: at(60),
    ...changes,
  };
}

function heldBy(changes: Partial<(EventDraft & { type: 'ReservationHeld' })['data']>): EventDraft {
  const data = {
    reservationId: R2,
    customer: BOB,
    locker: 'A',
    size: 'S' as const,
    from: at(0),
    until: at(60),
    holdExpiresAt: toInstant(NOW_MS + HOLD_TTL_S * 1_000),
    price: { amount: 200, currency: 'EUR' },
    configurationVersion: 1,
    ...changes,
  };
  return { type: 'ReservationHeld', locker: data.locker, data };
}

describe('hold', () => {
  test('claims the first free locker of the size, at the price of the configuration', () => {
    given(registered)
      .when((state) => holdLocker(state, holding()))
      .thenEvents([heldBy({})]);
  });

  test('claims the locker that was asked for', () => {
    given(registered)
      .when((state) => holdLocker(state, holding({ requested: { locker: 'C' } })))
      .thenEvents([heldBy({ locker: 'C', size: 'M', price: { amount: 300, currency: 'EUR' } })]);
  });

  test('claims another locker when the first is reserved', () => {
    given(registered, held(), confirmed())
      .when((state) => holdLocker(state, holding()))
      .thenEvents([heldBy({ locker: 'B' })]);
  });

  test('never claims a locker of a size that was not requested', () => {
    given(registered, held(), held({ reservationId: 'other', locker: 'B' }))
      .when((state) => holdLocker(state, holding()))
      .thenRefused('no-locker-free', /No locker of size S is free from/);
  });

  test('decides nothing when the hold is repeated with the same reservation id', () => {
    given(registered, held())
      .when((state) => holdLocker(state, holding({ reservationId: R1, customer: ALICE })))
      .thenNothing();
  });

  test('refuses a reservation id that belongs to another customer', () => {
    given(registered, held())
      .when((state) => holdLocker(state, holding({ reservationId: R1, customer: BOB })))
      .thenRefused('reservation-state', /exists already/);
  });

  test('normalises the times of the request to UTC with milliseconds', () => {
    given(registered)
      .when((state) =>
        holdLocker(state, holding({ from: '2026-06-01T12:00:00Z', until: '2026-06-01T13:00:00.000000Z' })),
      )
      .thenEvents([heldBy({})]);
  });

  test('prices by the newest configuration and names its version', () => {
    given(registered, configured({ holdTtlS: 60, prices: [{ size: 'S', perHour: 100, currency: 'PLN' }] }))
      .when((state) => holdLocker(state, holding()))
      .thenEvents([
        heldBy({
          holdExpiresAt: at(1),
          price: { amount: 100, currency: 'PLN' },
          configurationVersion: 2,
        }),
      ]);
  });

  test('expires at the end of its period at the latest', () => {
    given(registered, configured({ holdTtlS: 86_400 }))
      .when((state) => holdLocker(state, holding()))
      .thenEvents([heldBy({ holdExpiresAt: at(60), configurationVersion: 2 })]);
  });
});

describe('a free locker', () => {
  const holdA = holding({ requested: { locker: 'A' } });
  const refused = /Locker A is not free/;

  test.each([
    ['held', [held()], false],
    ['held by an expired hold', [held({ holdExpiresAt: at(0) })], true],
    ['confirmed', [held(), confirmed()], false],
    ['active', [held(), confirmed(), started()], false],
    ['completed', [held(), confirmed(), started(), completed()], true],
    ['cancelled', [held(), { type: 'ReservationCancelled', data: { reservationId: R1 } }], true],
    ['expired', [held(), { type: 'ReservationExpired', data: { reservationId: R1, reason: 'hold' } }], true],
    ['rejected', [held(), { type: 'ReservationRejected', data: { reservationId: R1, reason: 'taken' } }], true],
    ['held until the start of the period', [held({ from: at(-60), until: at(0) })], true],
    ['held from the end of the period', [held({ from: at(60), until: at(90) })], true],
    ['held from a minute before the end', [held({ from: at(59), until: at(90) })], false],
    ['held in another locker', [held({ locker: 'B' })], true],
    [
      'held by a reservation that was moved to another locker',
      [
        held(),
        confirmed(),
        {
          type: 'ReservationMoved',
          data: { reservationId: R1, fromLocker: 'A', toLocker: 'B', size: 'S', reason: 'taken' },
        },
      ],
      true,
    ],
    ['active in another locker than booked', [held(), confirmed(), started(R1, 'B')], true],
  ] as const)('a locker that is %s', (_, past, free) => {
    const outcome = given(registered, ...past).when((state) => holdLocker(state, holdA));
    if (free) outcome.thenEvents([heldBy({})]);
    else outcome.thenRefused('no-locker-free', refused);
  });

  test('is not one that is out of service', () => {
    given(registered, { type: 'LockerTakenOutOfService', data: { id: 'A' } })
      .when((state) => holdLocker(state, holdA))
      .thenRefused('no-locker-free', refused);
  });

  test('is one that returned to service', () => {
    given(
      registered,
      { type: 'LockerTakenOutOfService', data: { id: 'A' } },
      { type: 'LockerReturnedToService', data: { id: 'A' } },
    )
      .when((state) => holdLocker(state, holdA))
      .thenEvents([heldBy({})]);
  });

  test('is not one with a walk-up rental, until the rental ends', () => {
    given(registered, taken('A', { fromMin: -10, untilMin: 30 }))
      .when((state) => holdLocker(state, holdA))
      .thenRefused('no-locker-free', refused);
    given(registered, taken('A', { fromMin: -10, untilMin: 30 }), givenBack('A', -5))
      .when((state) => holdLocker(state, holdA))
      .thenEvents([heldBy({})]);
  });

  test('is one whose rental is due to end before the period begins', () => {
    given(registered, taken('A', { fromMin: -10, untilMin: 30 }))
      .when((state) => holdLocker(state, { ...holdA, from: at(30), until: at(90) }))
      .thenEvents([heldBy({ from: at(30), until: at(90) })]);
  });

  test.each([
    ['a rental', taken('A', { fromMin: -90, untilMin: -30 })],
    ['a reservation', held({ from: at(-90), until: at(-30) })],
  ])('%s that is over its time keeps its locker for the allowance', (what, occupant) => {
    const past = what === 'a rental' ? [occupant] : [occupant, confirmed(), started(R1, 'A', -90)];
    const allowanceMin = OVERDUE_ALLOWANCE_MS / MINUTE_MS;
    given(registered, ...past)
      .when((state) => holdLocker(state, { ...holdA, from: at(allowanceMin - 1), until: at(allowanceMin + 59) }))
      .thenRefused('no-locker-free', refused);
    given(registered, ...past)
      .when((state) => holdLocker(state, { ...holdA, from: at(allowanceMin), until: at(allowanceMin + 60) }))
      .thenEvents([heldBy({ from: at(allowanceMin), until: at(allowanceMin + 60) })]);
  });
});

describe('a hold is refused', () => {
  test.each([
    ['for an unregistered unit', [], /no such unit/],
    ['for a unit that has left', [registered, { type: 'UnitRetired', data: {} }], /left the platform/],
  ] as const)('%s', (_, past, message) => {
    given(...past)
      .when((state) => holdLocker(state, holding()))
      .thenRefused('not-found', message);
  });

  test('for a locker that the unit does not have', () => {
    given(registered)
      .when((state) => holdLocker(state, holding({ requested: { locker: 'Z' } })))
      .thenRefused('validation', /no locker Z/, ['/locker']);
  });

  test('for a size without a price', () => {
    given(registered, configured({ prices: [{ size: 'M', perHour: 1, currency: 'EUR' }] }))
      .when((state) => holdLocker(state, holding()))
      .thenRefused('no-locker-free', /size S are not for rent/);
  });

  test.each([
    ['from', 'is not a time', { from: 'soon' }, '/from'],
    ['until', 'is not a time', { until: '2026-06-01T99:00:00Z' }, '/until'],
    ['until', 'is before from', { until: at(-1) }, '/until'],
    ['until', 'is from', { until: at(0) }, '/until'],
    ['from', 'lies in the past', { from: toInstant(NOW_MS - PAST_TOLERANCE_MS - 1) }, '/from'],
    [
      'from',
      'lies too far ahead',
      {
        from: toInstant(NOW_MS + MAX_RESERVE_AHEAD_DAYS * DAY_MS + 1),
        until: toInstant(NOW_MS + MAX_RESERVE_AHEAD_DAYS * DAY_MS + HOUR_MS),
      },
      '/from',
    ],
    ['until', 'is too close', { until: at(14) }, '/until'],
    ['until', 'is too far', { until: at(7 * 24 * 60 + 1) }, '/until'],
  ] as const)('because %s %s', (_field, _why, changes, path) => {
    given(registered)
      .when((state) => holdLocker(state, holding(changes)))
      .thenRefused('validation', /period/, [path]);
  });

  test.each([
    ['begins as long ago as the tolerance allows', { from: toInstant(NOW_MS - PAST_TOLERANCE_MS) }],
    ['has the minimum length', { until: at(15) }],
    ['has the maximum length', { until: at(7 * 24 * 60) }],
    [
      'begins as far ahead as allowed',
      {
        from: toInstant(NOW_MS + MAX_RESERVE_AHEAD_DAYS * DAY_MS),
        until: toInstant(NOW_MS + MAX_RESERVE_AHEAD_DAYS * DAY_MS + HOUR_MS),
      },
    ],
  ] as const)('but not when the period %s', (_, changes) => {
    const { state } = given(registered);
    expect(holdLocker(state, holding(changes))).toHaveLength(1);
  });

  test('when all lockers of the size are taken, although a larger one is free', () => {
    given(registeredWith({ id: 'A', size: 'S' }, { id: 'L', size: 'XL' }), held())
      .when((state) => holdLocker(state, holding()))
      .thenRefused('no-locker-free', /size S/);
  });
});

test('200 customers race for one locker and one of them wins', () => {
  let { state } = given(registeredWith({ id: 'A', size: 'S' }));
  const outcomes = Array.from({ length: 200 }, (_, index) => {
    const ask = holding({ reservationId: `r-${index}`, customer: `c-${index}`, nowMs: atMs(0) });
    try {
      const drafts = holdLocker(state, ask);
      state = given(registeredWith({ id: 'A', size: 'S' }), ...drafts).state;
      return 'won';
    } catch (error) {
      return (error as { kind: string }).kind;
    }
  });
  expect(outcomes.filter((outcome) => outcome === 'won')).toHaveLength(1);
  expect(outcomes.filter((outcome) => outcome === 'no-locker-free')).toHaveLength(199);
});
