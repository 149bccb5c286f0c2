import { describe, expect, test } from 'bun:test';
import {
  cancelReservation,
  confirmReservation,
  endReservation,
  OPEN_COMMAND_TTL_MS,
  requestLockerOpen,
  requireOpenable,
  requireOwnReservation,
} from '../../../domain/booking/customer-decisions.ts';
import { toInstant } from '../../../domain/vocabulary.ts';
import { from, given, type Past, withDecision } from '../../support/given.ts';
import {
  accessCodeOf,
  at,
  atMs,
  BOB,
  command,
  confirmed,
  givenBack,
  held,
  NOW_MS,
  PRICE,
  R1,
  R2,
  R3,
  registered,
  registeredWith,
  started,
  taken,
} from '../../support/scene.ts';

const pay = (changes = {}) => ({ ...command(changes), paymentReference: 'pay-1', accessCodeOf });
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
    ['confirm', (state) => confirmReservation(state, pay(other))],
    ['cancel', (state) => cancelReservation(state, command(other))],
    ['open', (state) => requestLockerOpen(state, command(other))],
    ['end', (state) => endReservation(state, command(other))],
  ] satisfies [string, Parameters<ReturnType<typeof given>['when']>[0]][])(
    'cannot %s it and gets not found',
    (_, decide) => {
      given(registered, held(), confirmed())
        .when(decide)
        .thenRefused('not-found', /no such reservation/);
    },
  );

  test('an unknown reservation id is answered as not found', () => {
    const { state } = given(registered, held());
    for (const reservationId of ['', R2, 'constructor', '__proto__', 'toString']) {
      expect(() => requireOwnReservation(state, command({ reservationId }))).toThrow('no such reservation');
    }
  });
});

describe('confirm', () => {
  test('records the payment and the confirmation together', () => {
    given(registered, held())
      .when((state) => confirmReservation(state, pay()))
      .thenEvents([
        { type: 'PaymentSucceeded', locker: 'A', data: { reference: 'pay-1', ...PRICE, reservationId: R1 } },
        { type: 'ReservationConfirmed', locker: 'A', data: { reservationId: R1, paymentReference: 'pay-1' } },
      ]);
  });

  test('is refused from the moment at which the hold expires', () => {
    given(registered, held({ holdExpiresAt: toInstant(NOW_MS + 1) }))
      .when((state) => confirmReservation(state, pay()))
      .thenEvents([
        expect.objectContaining({ type: 'PaymentSucceeded' }),
        expect.objectContaining({ type: 'ReservationConfirmed' }),
      ]);
    given(registered, held({ holdExpiresAt: toInstant(NOW_MS) }))
      .when((state) => confirmReservation(state, pay()))
      .thenRefused('reservation-state', /hold ran out at 2026-06-01T12:00:00/);
  });

  test('is refused for an expired hold on a slow clock when another customer holds the locker', () => {
    // The process that reserved the locker for R2 saw the hold of R1 expire; the clock of this process is behind.
    const past = [registered, held({ holdExpiresAt: at(1) }), held({ reservationId: R2, customer: BOB })];
    given(...past)
      .when((state) => confirmReservation(state, pay()))
      .thenRefused('reservation-state', /Another customer has its locker/);
    given(...past, confirmed(R2))
      .when((state) => confirmReservation(state, pay()))
      .thenRefused('reservation-state', /Another customer has its locker/);
  });

  test('is accepted for the customer who holds the locker after an expired hold, also on a slow clock', () => {
    const { state } = given(registered, held({ holdExpiresAt: at(1) }), held({ reservationId: R2, customer: BOB }));
    expect(confirmReservation(state, pay({ reservationId: R2, customer: BOB }))).toHaveLength(2);
  });

  test('is accepted beside reservations of the same locker at other times and ended ones', () => {
    const { state } = given(
      registered,
      held(),
      held({ reservationId: R2, from: at(60), until: at(90) }),
      confirmed(R2),
      held({ reservationId: R3 }),
      { type: 'ReservationCancelled', data: { reservationId: R3 } },
    );
    expect(confirmReservation(state, pay())).toHaveLength(2);
  });

  test('repeated changes nothing, also after the customer has opened the door many times', () => {
    const doors = Array.from({ length: 40 }, (_, index) => [asked(`open-${index}`), opened(`open-${index}`)]).flat();
    given(registered, held(), { ...confirmed(), commandId: 'the-confirm' }, started(), ...doors)
      .when((state) => confirmReservation(state, pay({ commandId: 'the-confirm' })))
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
      .when((state) => cancelReservation(state, command()))
      .thenEvents([{ type: 'ReservationCancelled', locker: 'A', data: { reservationId: R1 } }]);
  });

  test('is refused while a command to open is on its way to the unit, and for no longer', () => {
    const asked: Past = {
      type: 'LockerOpenRequested',
      locker: 'A',
      data: { reservationId: R1, locker: 'A', commandId: 'o1', expiresAt: toInstant(NOW_MS + 10_000) },
    };
    const unreachable: Past = {
      type: 'LockerOpenAnswered',
      locker: 'A',
      data: { reservationId: R1, locker: 'A', commandId: 'o1', result: 'unreachable' },
    };
    const cancelled = { type: 'ReservationCancelled' as const, locker: 'A', data: { reservationId: R1 } };
    const cancelAt = (nowMs: number, ...past: Past[]) =>
      given(registered, held(), confirmed(), ...past).when((state) => cancelReservation(state, command({ nowMs })));
    cancelAt(NOW_MS + 9_999, asked).thenRefused('reservation-state', /being opened/);
    cancelAt(NOW_MS + 10_000, asked).thenEvents([cancelled]);
    cancelAt(NOW_MS + 1, asked, unreachable).thenEvents([cancelled]);
  });

  test('is refused once the unit reported the start of the rental', () => {
    given(registered, held(), confirmed(), taken('A', { fromMin: -1, untilMin: 60, reservationId: R1 }))
      .when((state) => cancelReservation(state, command()))
      .thenRefused('reservation-state', /unused/);
  });

  test('is refused once the unit reported the start and the end of the rental', () => {
    given(
      registered,
      held(),
      confirmed(),
      taken('A', { fromMin: -10, untilMin: 60, reservationId: R1 }),
      givenBack('A', -1, R1),
    )
      .when((state) => cancelReservation(state, command()))
      .thenRefused('reservation-state', /unused/);
  });
});

describe('open', () => {
  const request = {
    type: 'LockerOpenRequested' as const,
    locker: 'A',
    data: { reservationId: R1, locker: 'A', commandId: 'now', expiresAt: toInstant(NOW_MS + OPEN_COMMAND_TTL_MS) },
  };

  test('is recorded as requested before the command is sent to the unit', () => {
    given(registered, held(), confirmed())
      .when((state) => requestLockerOpen(state, command()))
      .thenEvents([request]);
  });

  test('names the locker that the unit assigned to the customer', () => {
    given(registered, held(), confirmed(), taken('B', { fromMin: -1, untilMin: 60, reservationId: R1 }))
      .when((state) => requestLockerOpen(state, command()))
      .thenEvents([
        { type: 'ReservationStarted', locker: 'B', data: { reservationId: R1, locker: 'B', startedAt: at(-1) } },
        { ...request, locker: 'B', data: { ...request.data, locker: 'B' } },
      ]);
  });

  test('is accepted until the end of the period, and after it while the rental is open', () => {
    const late = command({ nowMs: atMs(60) });
    given(registered, held(), confirmed())
      .when((state) => requestLockerOpen(state, command({ nowMs: atMs(60) - 1 })))
      .thenEvents([expect.objectContaining({ type: 'LockerOpenRequested' })]);
    given(registered, held(), confirmed())
      .when((state) => requestLockerOpen(state, late))
      .thenRefused('reservation-state', /period ended/);
    given(registered, held(), confirmed(), taken('A', { fromMin: 1, untilMin: 60, reservationId: R1 }))
      .when((state) => requestLockerOpen(state, late))
      .thenEvents([
        expect.objectContaining({ type: 'ReservationStarted' }),
        expect.objectContaining({ type: 'LockerOpenRequested' }),
      ]);
  });

  test('is refused after the unit reported the end of the rental', () => {
    const past = [
      registered,
      held(),
      confirmed(),
      taken('A', { fromMin: -10, untilMin: 60, reservationId: R1 }),
      givenBack('A', -1, R1),
    ];
    given(...past)
      .when((state) => requestLockerOpen(state, command()))
      .thenRefused('reservation-state', /given back/);
    given(...past, started())
      .when((state) => requestLockerOpen(state, command()))
      .thenRefused('reservation-state', /given back/);
  });

  test('moves the reservation first when another customer has its locker, and opens the new one', () => {
    for (const occupant of [
      taken('A', { fromMin: -1, untilMin: 30 }),
      taken('A', { fromMin: -90, untilMin: -1 }),
      taken('A', { fromMin: -90, untilMin: -1, reservationId: R2 }),
    ]) {
      given(registered, held(), confirmed(), occupant)
        .when((state) => requestLockerOpen(state, command()))
        .thenEvents([
          expect.objectContaining({ type: 'ReservationConflictDetected' }),
          expect.objectContaining({ type: 'ReservationMoved', locker: 'B' }),
          { ...request, locker: 'B', data: { ...request.data, locker: 'B' } },
        ]);
    }
  });

  test('asks the unit while the previous rental is overdue and no other locker fits: that customer may have left', () => {
    given(registeredWith({ id: 'A', size: 'S' }), held(), confirmed(), taken('A', { fromMin: -90, untilMin: -1 }))
      .when((state) => requestLockerOpen(state, command()))
      .thenEvents([request]);
  });

  test('ends the reservation when a walk-up rental has the only locker, and is refused then', () => {
    const { state } = given(
      registeredWith({ id: 'A', size: 'S' }),
      held(),
      confirmed(),
      taken('A', { fromMin: -1, untilMin: 30 }),
    );
    const drafts = requestLockerOpen(state, command());
    expect(drafts.map(({ type }) => type)).toEqual(['ReservationConflictDetected', 'ReservationRejected']);
    const after = withDecision(state, drafts, { commandId: 'now', atMs: NOW_MS });
    from(after)
      .when((present) => requestLockerOpen(present, command()))
      .thenRefused('reservation-state', /rejected/);
    expect(() => requireOpenable(after, command())).toThrow('rejected');
  });

  test('that is repeated is checked anew and recorded once', () => {
    const past = [registered, held(), confirmed(), asked('now')];
    given(...past)
      .when((state) => requestLockerOpen(state, command()))
      .thenNothing();
    given(...past, { type: 'ReservationCancelled', data: { reservationId: R1 } })
      .when((state) => requestLockerOpen(state, command()))
      .thenRefused('reservation-state', /cancelled/);
    given(...past, opened('now', 'unreachable'))
      .when((state) => requestLockerOpen(state, command({ nowMs: atMs(60) })))
      .thenRefused('reservation-state', /period ended/);
  });

  test('that is repeated after it failed is a new command to the unit', () => {
    const failed: Past = {
      type: 'LockerOpenAnswered',
      data: { reservationId: R1, locker: 'A', commandId: 'now', result: 'refused', reason: 'expired' },
    };
    const { state } = given(registered, held(), confirmed(), asked('now'), failed);
    const drafts = requestLockerOpen(state, command());
    expect(drafts).toEqual([{ ...request, data: { ...request.data, commandId: 'now.2' } }]);
    const after = withDecision(state, drafts, { commandId: 'again', atMs: NOW_MS });
    expect(requireOpenable(after, command())).toEqual({
      openId: 'now.2',
      locker: 'A',
      until: at(60),
      isOpened: false,
    });
  });
});
