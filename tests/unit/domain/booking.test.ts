import { describe, expect, test } from 'bun:test';
import {
  answerOpen,
  cancel,
  confirm,
  end,
  OPEN_COMMAND_TTL_MS,
  ownReservation,
  requestOpen,
} from '../../../domain/booking.ts';
import { toInstant } from '../../../domain/vocabulary.ts';
import { given, type Past, withDecision } from '../../support/given.ts';
import {
  at,
  atMs,
  BOB,
  command,
  completed,
  confirmed,
  givenBack,
  held,
  NOW_MS,
  PRICE,
  R1,
  R2,
  R3,
  registered,
  started,
  taken,
} from './scene.ts';

const pay = (changes = {}) => ({ ...command(changes), paymentReference: 'pay-1' });
const opened = (commandId: string, result: 'opened' | 'unreachable' = 'opened'): Past => ({
  type: 'LockerOpenAnswered',
  data: { reservationId: R1, locker: 'A', commandId, result },
});
const asked = (commandId: string, locker = 'A'): Past => ({
  type: 'LockerOpenRequested',
  data: { reservationId: R1, locker, commandId, expiresAt: at(1) },
});

describe('another customer', () => {
  const other = { customer: BOB };

  test.each([
    ['confirm', (state) => confirm(state, pay(other))],
    ['cancel', (state) => cancel(state, command(other))],
    ['open', (state) => requestOpen(state, command(other))],
    ['end', (state) => end(state, command(other))],
  ] satisfies [string, Parameters<ReturnType<typeof given>['when']>[0]][])(
    'cannot %s it: for them it does not exist',
    (_, decide) => {
      given(registered, held(), confirmed())
        .when(decide)
        .thenRefused('not-found', /no such reservation/);
    },
  );

  test('an id that nobody has does not exist for anybody', () => {
    const { state } = given(registered, held());
    for (const reservationId of ['', R2, 'constructor', '__proto__', 'toString']) {
      expect(() => ownReservation(state, command({ reservationId }))).toThrow('no such reservation');
    }
  });
});

describe('confirm', () => {
  test('records the payment and the confirmation together', () => {
    given(registered, held())
      .when((state) => confirm(state, pay()))
      .thenEvents([
        { type: 'PaymentSucceeded', locker: 'A', data: { reference: 'pay-1', ...PRICE, reservationId: R1 } },
        { type: 'ReservationConfirmed', locker: 'A', data: { reservationId: R1, paymentReference: 'pay-1' } },
      ]);
  });

  test('is refused from the moment on at which the hold runs out', () => {
    given(registered, held({ holdExpiresAt: toInstant(NOW_MS + 1) }))
      .when((state) => confirm(state, pay()))
      .thenEvents([
        expect.objectContaining({ type: 'PaymentSucceeded' }),
        expect.objectContaining({ type: 'ReservationConfirmed' }),
      ]);
    given(registered, held({ holdExpiresAt: toInstant(NOW_MS) }))
      .when((state) => confirm(state, pay()))
      .thenRefused('reservation-state', /hold ran out at 2026-06-01T12:00:00/);
  });

  test('comes too late on a slow clock when the locker has been promised to another', () => {
    // Whoever gave the locker to R2 saw R1's hold run out; this process's clock is behind.
    const past = [registered, held({ holdExpiresAt: at(1) }), held({ reservationId: R2, customer: BOB })];
    given(...past)
      .when((state) => confirm(state, pay()))
      .thenRefused('reservation-state', /locker was given to somebody else/);
    given(...past, confirmed(R2))
      .when((state) => confirm(state, pay()))
      .thenRefused('reservation-state', /locker was given to somebody else/);
  });

  test('is open to whoever got the locker after a hold that ran out, also on a slow clock', () => {
    const { state } = given(registered, held({ holdExpiresAt: at(1) }), held({ reservationId: R2, customer: BOB }));
    expect(confirm(state, pay({ reservationId: R2, customer: BOB }))).toHaveLength(2);
  });

  test('does not mind others in the same locker at other times, or given up', () => {
    const { state } = given(
      registered,
      held(),
      held({ reservationId: R2, from: at(60), until: at(90) }),
      confirmed(R2),
      held({ reservationId: R3 }),
      { type: 'ReservationCancelled', data: { reservationId: R3 } },
    );
    expect(confirm(state, pay())).toHaveLength(2);
  });

  test('is recognised when repeated, also after the customer has opened the door many times', () => {
    const doors = Array.from({ length: 40 }, (_, index) => [asked(`open-${index}`), opened(`open-${index}`)]).flat();
    given(registered, held(), { ...confirmed(), commandId: 'the-confirm' }, started(), ...doors)
      .when((state) => confirm(state, pay({ commandId: 'the-confirm' })))
      .thenNothing();
  });
});

describe('cancel', () => {
  test.each([
    ['a hold', [held()]],
    ['a confirmed one before it begins', [held({ from: at(10), until: at(70) }), confirmed()]],
    ['a confirmed one that was not used yet', [held(), confirmed()]],
  ] as const)('gives up %s', (_, past) => {
    given(registered, ...past)
      .when((state) => cancel(state, command()))
      .thenEvents([{ type: 'ReservationCancelled', locker: 'A', data: { reservationId: R1 } }]);
  });

  test('is refused once the unit says that it is in use', () => {
    given(registered, held(), confirmed(), taken('A', { fromMin: -1, untilMin: 60, reservationId: R1 }))
      .when((state) => cancel(state, command()))
      .thenRefused('reservation-state', /unused/);
  });

  test('is refused once the unit says that it was used and given back', () => {
    given(
      registered,
      held(),
      confirmed(),
      taken('A', { fromMin: -10, untilMin: 60, reservationId: R1 }),
      givenBack('A', -1, R1),
    )
      .when((state) => cancel(state, command()))
      .thenRefused('reservation-state', /unused/);
  });
});

describe('open', () => {
  const request = {
    type: 'LockerOpenRequested' as const,
    locker: 'A',
    data: { reservationId: R1, locker: 'A', commandId: 'now', expiresAt: toInstant(NOW_MS + OPEN_COMMAND_TTL_MS) },
  };

  test('is recorded before the unit hears of it', () => {
    given(registered, held(), confirmed())
      .when((state) => requestOpen(state, command()))
      .thenEvents([request]);
  });

  test('is asked of the locker that the customer really has', () => {
    given(registered, held(), confirmed(), taken('B', { fromMin: -1, untilMin: 60, reservationId: R1 }))
      .when((state) => requestOpen(state, command()))
      .thenEvents([
        { type: 'ReservationStarted', locker: 'B', data: { reservationId: R1, locker: 'B', startedAt: at(-1) } },
        { ...request, locker: 'B', data: { ...request.data, locker: 'B' } },
      ]);
  });

  test('works to the end of the period, and after it for those who are in', () => {
    const late = command({ nowMs: atMs(60) });
    given(registered, held(), confirmed())
      .when((state) => requestOpen(state, command({ nowMs: atMs(60) - 1 })))
      .thenEvents([expect.objectContaining({ type: 'LockerOpenRequested' })]);
    given(registered, held(), confirmed())
      .when((state) => requestOpen(state, late))
      .thenRefused('reservation-state', /period ended/);
    given(registered, held(), confirmed(), taken('A', { fromMin: 1, untilMin: 60, reservationId: R1 }))
      .when((state) => requestOpen(state, late))
      .thenEvents([
        expect.objectContaining({ type: 'ReservationStarted' }),
        expect.objectContaining({ type: 'LockerOpenRequested' }),
      ]);
  });

  test('is refused when it was given back at the unit', () => {
    const past = [
      registered,
      held(),
      confirmed(),
      taken('A', { fromMin: -10, untilMin: 60, reservationId: R1 }),
      givenBack('A', -1, R1),
    ];
    given(...past)
      .when((state) => requestOpen(state, command()))
      .thenRefused('reservation-state', /given back/);
    given(...past, started())
      .when((state) => requestOpen(state, command()))
      .thenRefused('reservation-state', /given back/);
  });

  test('never opens the locker of somebody who took it at the screen', () => {
    given(registered, held(), confirmed(), taken('A', { fromMin: -1, untilMin: 30 }))
      .when((state) => requestOpen(state, command()))
      .thenRefused('reservation-state', /taken at the screen/);
  });

  test('leaves it to the unit whether somebody who is over time has gone', () => {
    given(registered, held(), confirmed(), taken('A', { fromMin: -90, untilMin: -1 }))
      .when((state) => requestOpen(state, command()))
      .thenEvents([request]);
  });
});

describe('the answer to an open', () => {
  const answer = (result: 'opened' | 'failed' | 'refused' | 'unreachable', reason?: string) => ({
    reservationId: R1,
    commandId: 'o1',
    result,
    nowMs: NOW_MS,
    ...(reason === undefined ? {} : { reason }),
  });
  const recorded = (result: 'opened' | 'failed' | 'refused' | 'unreachable') => ({
    type: 'LockerOpenAnswered' as const,
    locker: 'A',
    data: { reservationId: R1, locker: 'A', commandId: 'o1', result },
  });

  test('starts the rental when the door has opened for the first time', () => {
    given(registered, held(), confirmed(), asked('o1'))
      .when((state) => answerOpen(state, answer('opened')))
      .thenEvents([
        recorded('opened'),
        { type: 'ReservationStarted', locker: 'A', data: { reservationId: R1, locker: 'A', startedAt: at(0) } },
      ]);
  });

  test('starts nothing when the rental runs', () => {
    given(registered, held(), confirmed(), started(), asked('o1'))
      .when((state) => answerOpen(state, answer('opened')))
      .thenEvents([recorded('opened')]);
  });

  test.each(['failed', 'refused', 'unreachable'] as const)('starts nothing when it is %s', (result) => {
    given(registered, held(), confirmed(), asked('o1'))
      .when((state) => answerOpen(state, answer(result)))
      .thenEvents([recorded(result)]);
  });

  test('keeps the reason', () => {
    given(registered, held(), confirmed(), asked('o1'))
      .when((state) => answerOpen(state, answer('failed', 'jammed')))
      .thenEvents([{ ...recorded('failed'), data: { ...recorded('failed').data, reason: 'jammed' } }]);
  });

  test.each([
    ['opened', 'failed'],
    ['failed', 'opened'],
    ['refused', 'opened'],
    ['opened', 'opened'],
    ['unreachable', 'unreachable'],
  ] as const)('that was %s is not changed to %s', (before, after) => {
    given(registered, held(), confirmed(), asked('o1'), {
      type: 'LockerOpenAnswered',
      data: { reservationId: R1, locker: 'A', commandId: 'o1', result: before },
    })
      .when((state) => answerOpen(state, answer(after)))
      .thenNothing();
  });

  test('may still come when the unit seemed out of reach', () => {
    given(registered, held(), confirmed(), asked('o1'), opened('o1', 'unreachable'))
      .when((state) => answerOpen(state, answer('opened')))
      .thenEvents([recorded('opened'), expect.objectContaining({ type: 'ReservationStarted' })]);
  });

  test('nobody asked for is passed over', () => {
    given(registered, held(), confirmed())
      .when((state) => answerOpen(state, answer('opened')))
      .thenNothing();
    for (const reservationId of [R2, 'constructor']) {
      given(registered, held(), confirmed())
        .when((state) => answerOpen(state, { ...answer('opened'), reservationId }))
        .thenNothing();
    }
  });

  test('starts from when and where the unit says', () => {
    given(registered, held(), confirmed(), asked('o1'), taken('B', { fromMin: -1, untilMin: 60, reservationId: R1 }))
      .when((state) => answerOpen(state, answer('opened')))
      .thenEvents([
        expect.objectContaining({ type: 'LockerOpenAnswered' }),
        { type: 'ReservationStarted', locker: 'B', data: { reservationId: R1, locker: 'B', startedAt: at(-1) } },
      ]);
  });

  test('starts nothing that was given up meanwhile', () => {
    given(registered, held(), confirmed(), asked('o1'), {
      type: 'ReservationCancelled',
      data: { reservationId: R1 },
    })
      .when((state) => answerOpen(state, answer('opened')))
      .thenEvents([recorded('opened')]);
  });
});

describe('end', () => {
  const ended = (changes: object = {}) => ({
    type: 'ReservationCompleted' as const,
    locker: 'A',
    data: { reservationId: R1, endedAt: at(0), endedBy: 'customer' as const, ...changes },
  });

  test('gives the locker back', () => {
    given(registered, held(), confirmed(), started())
      .when((state) => end(state, command()))
      .thenEvents([ended()]);
  });

  test('records the start too when only the unit knew of it', () => {
    given(registered, held(), confirmed(), taken('A', { fromMin: -9, untilMin: 60, reservationId: R1 }))
      .when((state) => end(state, command()))
      .thenEvents([
        { type: 'ReservationStarted', locker: 'A', data: { reservationId: R1, locker: 'A', startedAt: at(-9) } },
        ended(),
      ]);
  });

  test('speaks of the locker that the unit gave, not of the one that was booked', () => {
    const past = [registered, held(), confirmed(), taken('B', { fromMin: -9, untilMin: 60, reservationId: R1 })];
    given(...past)
      .when((state) => end(state, command()))
      .thenEvents([
        { type: 'ReservationStarted', locker: 'B', data: { reservationId: R1, locker: 'B', startedAt: at(-9) } },
        { ...ended(), locker: 'B' },
      ]);
    given(...past, { type: 'LockerOpened', locker: 'B', data: { cause: 'reservation' } })
      .when((state) => end(state, command()))
      .thenRefused('reservation-state', /door stands open/);
    given(...past, { type: 'LockerOpened', locker: 'A', data: { cause: 'service' } })
      .when((state) => end(state, command()))
      .thenEvents([expect.objectContaining({ type: 'ReservationStarted' }), { ...ended(), locker: 'B' }]);
  });

  test('ended when the unit says it was given back', () => {
    const past = [
      registered,
      held(),
      confirmed(),
      taken('A', { fromMin: -9, untilMin: 60, reservationId: R1 }),
      givenBack('A', -2, R1),
    ];
    const byUnit = ended({ endedAt: at(-2), endedBy: 'unit' });
    given(...past)
      .when((state) => end(state, command()))
      .thenEvents([expect.objectContaining({ type: 'ReservationStarted' }), byUnit]);
    given(...past, started())
      .when((state) => end(state, command()))
      .thenEvents([byUnit]);
  });

  test.each([
    ['open', /door stands open/],
    ['closed', undefined],
    ['unknown', undefined],
  ] as const)('with the door %s', (door, message) => {
    const doors: Past[] =
      door === 'unknown'
        ? []
        : [
            {
              type: door === 'open' ? 'LockerOpened' : 'LockerClosed',
              locker: 'A',
              data: { cause: 'reservation' },
            } as Past,
          ];
    const outcome = given(registered, held(), confirmed(), started(), ...doors).when((state) => end(state, command()));
    if (message === undefined) outcome.thenEvents([ended()]);
    else outcome.thenRefused('reservation-state', message);
  });

  test('is refused before the first use', () => {
    given(registered, held(), confirmed())
      .when((state) => end(state, command()))
      .thenRefused('reservation-state', /not used yet; cancel/);
  });

  test('is recognised when repeated, however long the reservation lasted', () => {
    // The unit forgets finished reservations, the ones that ended first before the others: this one was made long ago.
    const others = Array.from({ length: 40 }, (_, index) => {
      const reservationId = `r-${index}`;
      const other = held({ reservationId, locker: 'B', from: at(index), until: at(index + 1) });
      return [other, { type: 'ReservationCancelled' as const, data: { reservationId } }];
    }).flat();
    const { state } = given(registered, held(), confirmed(), started(), ...others);
    const done = withDecision(state, end(state, command()), { commandId: 'now', atMs: NOW_MS });
    expect(end(done, command())).toEqual([]);
  });

  test('of a completed one is refused', () => {
    given(registered, held(), confirmed(), started(), completed())
      .when((state) => end(state, command()))
      .thenRefused('reservation-state', /completed/);
  });
});
