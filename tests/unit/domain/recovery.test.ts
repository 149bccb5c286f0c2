/** Events that were rejected and accepted after all: recovered once, and what they tell of a use follows in its booking. */

import { describe, expect, test } from 'bun:test';
import { settleBookings } from '../../../domain/booking/settlement.ts';
import { recoverEvent } from '../../../domain/device/unit-log.ts';
import type { EventOf } from '../../../domain/events/catalogue.ts';
import type { EventDraft } from '../../../domain/events/drafts.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { EPOCH, given, type Past } from '../../support/given.ts';
import { at, confirmed, givenBack, held, NOW_MS, R1, registered, taken } from '../../support/scene.ts';

type Recovery = EventOf<'UnitEventRecovered'>;

const now = (state: UnitState) => settleBookings(state, NOW_MS);

const startOf = (minutes: number, changes: Partial<Recovery> = {}): Recovery => ({
  epoch: EPOCH,
  seq: 7,
  type: 'RentalStarted',
  v: 1,
  time: at(minutes),
  data: { rentalId: 'rental-A', reservationId: R1, until: at(60) },
  ...changes,
});

const endOf = (minutes: number): Recovery => ({
  ...startOf(minutes, { seq: 8, type: 'RentalEnded' }),
  data: { rentalId: 'rental-A', reservationId: R1, reason: 'given-back' },
});

const recovered = (data: Recovery): Past => ({ type: 'UnitEventRecovered', locker: 'A', data });

const started = (minutes: number): EventDraft => ({
  type: 'ReservationStarted',
  locker: 'A',
  data: { reservationId: R1, locker: 'A', startedAt: at(minutes) },
});

const completed = (minutes: number): EventDraft => ({
  type: 'ReservationCompleted',
  locker: 'A',
  data: { reservationId: R1, endedAt: at(minutes), endedBy: 'unit' },
});

test('an event is recovered once', () => {
  const recover = ({ log }: UnitState) => recoverEvent(log, startOf(0), 'A');
  given(registered)
    .when(recover)
    .thenEvents([{ type: 'UnitEventRecovered', locker: 'A', data: startOf(0) }]);
  given(registered, recovered(startOf(0)))
    .when(recover)
    .thenNothing();
});

describe('a use of a reservation', () => {
  test('starts and ends by recovered events alone', () => {
    given(registered, held(), confirmed(), recovered(startOf(5)))
      .when(now)
      .thenEvents([started(5)]);
    given(registered, held(), confirmed(), recovered(startOf(5)), recovered(endOf(9)))
      .when(now)
      .thenEvents([started(5), completed(9)]);
  });

  test('has the same outcome when an operator recovers its end before its start', () => {
    given(registered, held(), confirmed(), recovered(endOf(9)), recovered(startOf(5)))
      .when(now)
      .thenEvents([started(5), completed(9)]);
  });

  test('whose end event was rejected ends when that event is recovered', () => {
    const reported = taken('A', { fromMin: 1, untilMin: 60, reservationId: R1 });
    given(registered, held(), confirmed(), reported)
      .when(now)
      .thenEvents([started(1)]);
    given(registered, held(), confirmed(), reported, recovered(endOf(9)))
      .when(now)
      .thenEvents([started(1), completed(9)]);
  });

  test('that is known from its end is not reopened by its recovered start', () => {
    given(registered, held(), confirmed(), givenBack('A', 9, R1), recovered(startOf(5)))
      .when(now)
      .thenEvents([started(9), completed(9)]);
  });

  test('reported with a wrong clock has the corrected times, whether its start or its end was rejected', () => {
    const aheadMin = 90;
    const ahead = { clockOffsetMs: aheadMin * 60_000 };
    const late = recovered({ ...endOf(9 + aheadMin), ...ahead });
    given(registered, held(), confirmed(), recovered(startOf(5 + aheadMin, ahead)), late)
      .when(now)
      .thenEvents([started(5), completed(9)]);
    given(registered, held(), confirmed(), taken('A', { fromMin: 1, untilMin: 60, reservationId: R1 }), late)
      .when(now)
      .thenEvents([started(1), completed(9)]);
  });

  test('recovered from an event of an unknown version is ignored', () => {
    given(registered, held(), confirmed(), recovered(startOf(5, { v: 2 })))
      .when(now)
      .thenNothing();
  });
});

test('a reservation id that is also a property of every object is handled like any other', () => {
  for (const reservationId of ['__proto__', 'constructor', 'toString']) {
    const odd = startOf(5, { data: { rentalId: 'r', reservationId, until: at(60) } });
    const { log } = given(registered, recovered(odd)).state;
    expect(Object.entries(log.usages)).toEqual([[reservationId, { locker: 'A', startedAt: at(5) }]]);
  }
});
