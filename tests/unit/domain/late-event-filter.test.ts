import { describe, expect, test } from 'bun:test';
import { findReservation } from '../../../domain/booking/reservation.ts';
import { withReportedUsage } from '../../../domain/booking/settlement.ts';
import { aggregateOf } from '../../../domain/events/catalogue.ts';
import type { CloudEvent } from '../../../domain/events/cloud-event.ts';
import { LateEventFilter } from '../../../domain/unit/late-event-filter.ts';
import { evolveUnit, type FoldableCommit, newUnitState, type UnitState } from '../../../domain/unit/unit.ts';
import { commitOf, type Past, UNIT, unitAfter } from '../../support/given.ts';
import {
  at,
  atMs,
  completed,
  confirmed,
  givenBack,
  HOUR_MS,
  held,
  NOW_MS,
  R1,
  registered,
  taken,
} from '../../support/scene.ts';

const OTHER_EPOCH = '018f0000-0000-7000-8000-000000000002';

/** The actual state at `momentMs` after all of `past` was recorded at once, by default a day later. */
function actual(momentMs: number, past: readonly Past[], recordedAtMs = NOW_MS + 24 * HOUR_MS): UnitState {
  const late = new LateEventFilter(momentMs);
  const commits: FoldableCommit[] = [];
  let whole = newUnitState(UNIT);
  for (const each of past) {
    const commit = commitOf(whole, each);
    commits.push(commit);
    whole = evolveUnit(whole, commit);
  }
  return commits.reduce((state, commit) => {
    const part = late.filterCommit({ ...commit, recordedAtMs });
    return part === undefined ? state : evolveUnit(state, part);
  }, newUnitState(UNIT));
}

const rentalIn = (state: UnitState, locker = 'A') => state.device.lockers[locker]?.rental?.rentalId;

describe('an event that is recorded late counts from when it occurred', () => {
  const past = [registered, taken('A', { fromMin: 0, untilMin: 60 }), givenBack('A', 30)];

  test.each([
    [-1, undefined],
    [0, 'rental-A'],
    [29, 'rental-A'],
    [30, undefined],
  ])('at minute %d', (minute, rental) => {
    expect(rentalIn(actual(atMs(minute), past))).toBe(rental);
  });

  test('in a batch, only the events that had occurred by then count', () => {
    const whole = unitAfter([registered]);
    const first = commitOf(whole, taken('A', { fromMin: 0, untilMin: 60 }));
    const second = commitOf(evolveUnit(whole, first), givenBack('A', 30));
    const batch = { ...first, events: [...first.events, ...second.events], recordedAtMs: atMs(90) };
    expect(new LateEventFilter(atMs(10)).filterCommit(batch)?.events).toEqual(first.events);
    expect(new LateEventFilter(atMs(30)).filterCommit(batch)?.events).toEqual(batch.events);
    expect(new LateEventFilter(atMs(-1)).filterCommit(batch)).toBeUndefined();
  });
});

describe('unit clocks', () => {
  test('with a known offset are corrected', () => {
    const past = [registered, { ...taken('A', { fromMin: 60, untilMin: 120 }), clockOffsetMs: HOUR_MS }];
    expect(rentalIn(actual(atMs(0), past))).toBe('rental-A');
    expect(rentalIn(actual(atMs(-1), past))).toBeUndefined();
  });

  test('that were set back do not let an end count without its beginning', () => {
    const past = [
      registered,
      taken('A', { fromMin: 0, untilMin: 60, id: 'first' }),
      // The clock was ahead here, and was set back before the next rental.
      { ...givenBack('A', 50, undefined, 'first') },
      taken('A', { fromMin: 10, untilMin: 60, id: 'second' }),
    ];
    expect(rentalIn(actual(atMs(20), past))).toBe('first');
    expect(rentalIn(actual(atMs(50), past))).toBe('second');
  });

  test('that are ahead of the recording time count as the recording time', () => {
    const past = [registered, taken('A', { fromMin: 600, untilMin: 700 })];
    expect(rentalIn(actual(atMs(5), past, atMs(5)))).toBe('rental-A');
    expect(rentalIn(actual(atMs(4), past, atMs(5)))).toBeUndefined();
  });

  test('that were reset to 1970 hide no event', () => {
    const past = [
      registered,
      taken('A', { fromMin: 0, untilMin: 60 }),
      { type: 'LockerOpened', locker: 'A', data: { cause: 'service' }, atMs: 0 } as const,
      givenBack('A', 30),
    ];
    expect(rentalIn(actual(atMs(-1), past))).toBeUndefined();
    expect(rentalIn(actual(atMs(10), past))).toBe('rental-A');
    expect(rentalIn(actual(atMs(30), past))).toBeUndefined();
  });
});

test('late events of an earlier epoch count in that epoch', () => {
  const newer: Past = {
    type: 'UnitStateReported',
    data: { reason: 'new-epoch', configurationHash: 'c', lockers: [{ id: 'A', door: 'closed' }] },
    epoch: OTHER_EPOCH,
    atMs: atMs(60),
  };
  const opened: Past = { type: 'LockerOpened', locker: 'A', data: { cause: 'walk-up' }, atMs: atMs(-1) };
  const past = [registered, opened, newer, taken('A', { fromMin: 0, untilMin: 90 })];
  const before = actual(atMs(30), past);
  expect([rentalIn(before), before.device.epoch]).toEqual(['rental-A', '018f0000-0000-7000-8000-000000000001']);
  const after = actual(atMs(60), past);
  expect([rentalIn(after), after.device.epoch]).toEqual([undefined, OTHER_EPOCH]);
});

test('what a unit reports that is registered later with the name does not count for the former unit', () => {
  const retired: Past = { type: 'UnitRetired', data: {}, atMs: atMs(100) };
  const again: Past = { ...registered, atMs: atMs(120) };
  const reported: Past = {
    type: 'UnitStateReported',
    data: { reason: 'new-epoch', configurationHash: 'c', lockers: [{ id: 'A', door: 'closed' }] },
    epoch: OTHER_EPOCH,
    // The clock of the later unit is two hours behind.
    atMs: atMs(5),
  };
  const past = [registered, taken('A', { fromMin: 0, untilMin: 60 }), retired, again, reported];
  const former = actual(atMs(20), past);
  expect([rentalIn(former), former.device.epoch]).toEqual(['rental-A', '018f0000-0000-7000-8000-000000000001']);
  const later = actual(atMs(130), past);
  expect([rentalIn(later), later.device.epoch]).toEqual([undefined, OTHER_EPOCH]);
});

test('a recovered event counts from when it occurred, by its own clock offset', () => {
  const recovered: Past = {
    type: 'UnitEventRecovered',
    locker: 'A',
    atMs: atMs(300),
    data: {
      epoch: OTHER_EPOCH,
      seq: 7,
      type: 'RentalStarted',
      v: 1,
      time: at(70),
      data: { rentalId: 'r', reservationId: R1, until: at(90) },
      clockOffsetMs: HOUR_MS,
    },
  };
  const gap: Past = {
    type: 'UnitLogGapDetected',
    data: { epoch: OTHER_EPOCH, fromSeq: 7, toSeq: 7 },
    atMs: atMs(200),
  };
  expect(actual(atMs(9), [registered, gap, recovered]).log.usages).toEqual({});
  const state = actual(atMs(10), [registered, gap, recovered]);
  expect(state.log.usages[R1]).toEqual({ locker: 'A', startedAt: at(10) });
  expect(state.log.gaps).toEqual({});
});

describe('a reservation whose use the unit reported', () => {
  const past = [registered, held(), confirmed()];
  const used = taken('B', { fromMin: 5, untilMin: 60, reservationId: R1 });

  test('is active in the locker that the unit assigned', () => {
    const { booking } = withReportedUsage(unitAfter([...past, used]), atMs(10));
    expect(findReservation(booking, R1)).toMatchObject({ status: 'active', locker: 'B', startedAt: at(5) });
  });

  test('is completed at the reported end', () => {
    const { booking } = withReportedUsage(unitAfter([...past, used, givenBack('B', 20, R1)]), atMs(30));
    expect(findReservation(booking, R1)).toMatchObject({ status: 'completed', endedAt: at(20) });
  });

  test('is unchanged when the unit reported no use', () => {
    const state = unitAfter([...past, completed()]);
    expect(withReportedUsage(state, atMs(40))).toBe(state);
  });
});

test('an event belongs to an aggregate by its type and its epoch, also when its type is unknown', () => {
  const payment = { type: 'PaymentSucceeded' };
  expect(aggregateOf(payment)).toBe('booking');
  expect(aggregateOf({ ...payment, unitepoch: OTHER_EPOCH })).toBe('device');
  expect(aggregateOf({ type: 'UnknownType', unitepoch: OTHER_EPOCH } as Pick<CloudEvent, 'type'>)).toBe('device');
  expect(aggregateOf({ type: 'UnknownType' })).toBeUndefined();
});
