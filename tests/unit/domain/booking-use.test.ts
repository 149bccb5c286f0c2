import { describe, expect, test } from 'bun:test';
import { endReservation, recordOpenAnswer } from '../../../domain/booking/customer-decisions.ts';
import { given, type Past, withDecision } from '../../support/given.ts';
import {
  at,
  command,
  completed,
  confirmed,
  givenBack,
  held,
  NOW_MS,
  R1,
  R2,
  registered,
  started,
  taken,
} from '../../support/scene.ts';

const opened = (commandId: string, result: 'opened' | 'unreachable' = 'opened'): Past => ({
  type: 'LockerOpenAnswered',
  data: { reservationId: R1, locker: 'A', commandId, result },
});

const asked = (commandId: string, locker = 'A'): Past => ({
  type: 'LockerOpenRequested',
  data: { reservationId: R1, locker, commandId, expiresAt: at(1) },
});

describe('an openLocker answer', () => {
  const answer = (result: 'opened' | 'failed' | 'refused' | 'unreachable', reason?: string) => ({
    reservationId: R1,
    commandId: 'o1',
    locker: 'A',
    result,
    nowMs: NOW_MS,
    ...(reason === undefined ? {} : { reason }),
  });
  const recorded = (result: 'opened' | 'failed' | 'refused' | 'unreachable') => ({
    type: 'LockerOpenAnswered' as const,
    locker: 'A',
    data: { reservationId: R1, locker: 'A', commandId: 'o1', result },
  });

  test('opened: starts the rental at the first opening', () => {
    given(registered, held(), confirmed(), asked('o1'))
      .when((state) => recordOpenAnswer(state, answer('opened')))
      .thenEvents([
        recorded('opened'),
        { type: 'ReservationStarted', locker: 'A', data: { reservationId: R1, locker: 'A', startedAt: at(0) } },
      ]);
  });

  test('opened again: does not start a second rental', () => {
    given(registered, held(), confirmed(), started(), asked('o1'))
      .when((state) => recordOpenAnswer(state, answer('opened')))
      .thenEvents([recorded('opened')]);
  });

  test.each(['failed', 'refused', 'unreachable'] as const)('starts nothing when it is %s', (result) => {
    given(registered, held(), confirmed(), asked('o1'))
      .when((state) => recordOpenAnswer(state, answer(result)))
      .thenEvents([recorded(result)]);
  });

  test('failed: records the reason of the unit', () => {
    given(registered, held(), confirmed(), asked('o1'))
      .when((state) => recordOpenAnswer(state, answer('failed', 'jammed')))
      .thenEvents([
        { ...recorded('failed'), data: { ...recorded('failed').data, reason: 'jammed' } },
        {
          type: 'ReservationConflictDetected',
          locker: 'A',
          data: { reservationId: R1, locker: 'A', resolution: 'moved' },
        },
        {
          type: 'ReservationMoved',
          locker: 'B',
          data: { reservationId: R1, fromLocker: 'A', toLocker: 'B', size: 'S', reason: 'Locker A did not open.' },
        },
      ]);
  });

  test('failed for a reason that another locker cannot mend: does not move the reservation', () => {
    given(registered, held(), confirmed(), asked('o1'))
      .when((state) => recordOpenAnswer(state, answer('failed', 'given-back')))
      .thenEvents([{ ...recorded('failed'), data: { ...recorded('failed').data, reason: 'given-back' } }]);
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
      .when((state) => recordOpenAnswer(state, answer(after)))
      .thenNothing();
  });

  test('opened, after the open was recorded as unreachable: still starts the rental', () => {
    given(registered, held(), confirmed(), asked('o1'), opened('o1', 'unreachable'))
      .when((state) => recordOpenAnswer(state, answer('opened')))
      .thenEvents([recorded('opened'), expect.objectContaining({ type: 'ReservationStarted' })]);
  });

  test('to an open that was never requested: records nothing', () => {
    given(registered, held(), confirmed())
      .when((state) => recordOpenAnswer(state, answer('opened')))
      .thenNothing();
    for (const reservationId of [R2, 'constructor']) {
      given(registered, held(), confirmed())
        .when((state) => recordOpenAnswer(state, { ...answer('opened'), reservationId }))
        .thenNothing();
    }
  });

  test('starts the rental at the time and in the locker that the unit states', () => {
    given(registered, held(), confirmed(), asked('o1'), taken('B', { fromMin: -1, untilMin: 60, reservationId: R1 }))
      .when((state) => recordOpenAnswer(state, answer('opened')))
      .thenEvents([
        expect.objectContaining({ type: 'LockerOpenAnswered' }),
        { type: 'ReservationStarted', locker: 'B', data: { reservationId: R1, locker: 'B', startedAt: at(-1) } },
      ]);
  });

  test('starts no rental for a reservation that ended meanwhile', () => {
    given(registered, held(), confirmed(), asked('o1'), {
      type: 'ReservationCancelled',
      data: { reservationId: R1 },
    })
      .when((state) => recordOpenAnswer(state, answer('opened')))
      .thenEvents([recorded('opened')]);
  });
});

describe('ending a reservation', () => {
  const ended = (changes: object = {}) => ({
    type: 'ReservationCompleted' as const,
    locker: 'A',
    data: { reservationId: R1, endedAt: at(0), endedBy: 'customer' as const, ...changes },
  });

  test('completes the reservation and frees the locker', () => {
    given(registered, held(), confirmed(), started())
      .when((state) => endReservation(state, command()))
      .thenEvents([ended()]);
  });

  test('also records the start when only the log of the unit has it', () => {
    given(registered, held(), confirmed(), taken('A', { fromMin: -9, untilMin: 60, reservationId: R1 }))
      .when((state) => endReservation(state, command()))
      .thenEvents([
        { type: 'ReservationStarted', locker: 'A', data: { reservationId: R1, locker: 'A', startedAt: at(-9) } },
        ended(),
      ]);
  });

  test('names the locker that the unit assigned, not the booked one', () => {
    const past = [registered, held(), confirmed(), taken('B', { fromMin: -9, untilMin: 60, reservationId: R1 })];
    given(...past)
      .when((state) => endReservation(state, command()))
      .thenEvents([
        { type: 'ReservationStarted', locker: 'B', data: { reservationId: R1, locker: 'B', startedAt: at(-9) } },
        { ...ended(), locker: 'B' },
      ]);
    given(...past, { type: 'LockerOpened', locker: 'B', data: { cause: 'reservation' } })
      .when((state) => endReservation(state, command()))
      .thenRefused('reservation-state', /door stands open/);
    given(...past, { type: 'LockerOpened', locker: 'A', data: { cause: 'service' } })
      .when((state) => endReservation(state, command()))
      .thenEvents([expect.objectContaining({ type: 'ReservationStarted' }), { ...ended(), locker: 'B' }]);
  });

  test('takes the end time of the unit when the unit reported the return', () => {
    const past = [
      registered,
      held(),
      confirmed(),
      taken('A', { fromMin: -9, untilMin: 60, reservationId: R1 }),
      givenBack('A', -2, R1),
    ];
    const byUnit = ended({ endedAt: at(-2), endedBy: 'unit' });
    given(...past)
      .when((state) => endReservation(state, command()))
      .thenEvents([expect.objectContaining({ type: 'ReservationStarted' }), byUnit]);
    given(...past, started())
      .when((state) => endReservation(state, command()))
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
    const outcome = given(registered, held(), confirmed(), started(), ...doors).when((state) =>
      endReservation(state, command()),
    );
    if (message === undefined) outcome.thenEvents([ended()]);
    else outcome.thenRefused('reservation-state', message);
  });

  test('is refused before the rental has started', () => {
    given(registered, held(), confirmed())
      .when((state) => endReservation(state, command()))
      .thenRefused('reservation-state', /not used yet; cancel/);
  });

  test('repeated changes nothing, also when many reservations have ended since', () => {
    // The unit forgets finished reservations, the ones that ended first before the others: this one was made long ago.
    const others = Array.from({ length: 40 }, (_, index) => {
      const reservationId = `r-${index}`;
      const other = held({ reservationId, locker: 'B', from: at(index), until: at(index + 1) });
      return [other, { type: 'ReservationCancelled' as const, data: { reservationId } }];
    }).flat();
    const { state } = given(registered, held(), confirmed(), started(), ...others);
    const done = withDecision(state, endReservation(state, command()), { commandId: 'now', atMs: NOW_MS });
    expect(endReservation(done, command())).toEqual([]);
  });

  test('is refused when the reservation is already completed', () => {
    given(registered, held(), confirmed(), started(), completed())
      .when((state) => endReservation(state, command()))
      .thenRefused('reservation-state', /completed/);
  });
});

describe('the fold of bookings', () => {
  const cancelled: Past = { type: 'ReservationCancelled', locker: 'A', data: { reservationId: R1 } };

  test('keeps the 32 reservations that finished last', () => {
    const past = Array.from({ length: 34 }, (_, index): Past[] => {
      const reservationId = `r-${index}`;
      return [held({ reservationId }), { type: 'ReservationCancelled', data: { reservationId } }];
    }).flat();
    const { open, finished } = given(registered, ...past).state.booking;
    expect(open).toEqual([]);
    expect(finished).toHaveLength(32);
    expect(finished.at(0)?.id).toBe('r-2');
    expect(finished.at(-1)?.id).toBe('r-33');
  });

  test('records the answer to an open on a reservation that is finished, in its place', () => {
    const other = [held({ reservationId: R2 }), { type: 'ReservationCancelled' as const, data: { reservationId: R2 } }];
    const past = [held(), confirmed(), asked('o1'), cancelled, ...other, opened('o1')];
    const { open, finished } = given(registered, ...past).state.booking;
    expect(open).toEqual([]);
    expect(finished.map(({ id, status, openResults }) => ({ id, status, openResults }))).toEqual([
      { id: R1, status: 'cancelled', openResults: { o1: 'opened' } },
      { id: R2, status: 'cancelled', openResults: {} },
    ]);
  });

  test('records that the unit accepted a reservation, and changes nothing else', () => {
    const before = given(registered, held(), confirmed()).state.booking.open[0];
    const accepted: Past = { type: 'ReservationAccepted', data: { reservationId: R1 }, commandId: 'accept' };
    const after = given(registered, held(), confirmed(), accepted).state.booking.open[0];
    expect(before).toMatchObject({ id: R1, status: 'confirmed', unitAck: 'pending' });
    expect(after).toMatchObject({
      id: R1,
      status: 'confirmed',
      locker: 'A',
      customer: 'customer-alice',
      unitAck: 'accepted',
    });
  });
});
