/** The pages of the list of reservations for a unit, and what follows from the unit's answers. */

import { describe, expect, test } from 'bun:test';
import { findReservation } from '../../../domain/booking/reservation.ts';
import { settleBookings } from '../../../domain/booking/settlement.ts';
import { requireUnit } from '../../../domain/registry/registry.ts';
import { reservationListPages } from '../../../domain/unit/reservation-list.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { isAnswerInconclusive, isRecordedUpTo, recordUnitAnswer } from '../../../domain/unit/unit-answer.ts';
import type { CommandAnswer } from '../../../domain/unit-protocol/commands.ts';
import {
  MAX_PAGE_BYTES,
  MAX_PAGE_RESERVATIONS,
  type SyncReservations,
} from '../../../domain/unit-protocol/reservation-list.ts';
import { EPOCH, given, type Past, UNIT, unitAfter, withDecision, withPast } from '../../support/given.ts';
import {
  at,
  completed,
  confirmed,
  held,
  NOW_MS,
  R1,
  R2,
  registered,
  registeredWith,
  started,
  taken,
} from '../../support/scene.ts';

const pagesOf = (state: UnitState) => reservationListPages(state, requireUnit(state.registry), () => '123456', NOW_MS);

function onePage(state: UnitState): SyncReservations {
  const [page, ...others] = pagesOf(state);
  if (page === undefined || others.length > 0) throw new Error('the list does not have one page');
  return page;
}

const reported: Past = { type: 'UnitRestarted', data: { bootId: 'b' } };
const cancelled: Past = { type: 'ReservationCancelled', data: { reservationId: R1 } };
const openRequested = (commandId: string): Past => ({
  type: 'LockerOpenRequested',
  data: { reservationId: R1, locker: 'A', commandId, expiresAt: at(1) },
});

/** `count` confirmed reservations of a locker, an hour each. */
function manyConfirmed(count: number, locker = 'A', offset = 0): Past[] {
  return Array.from({ length: count }, (_, index) => {
    const reservationId = `${UNIT}.00000000-0000-4000-8000-${String(offset + index).padStart(12, '0')}`;
    const period = { from: at(60 * index), until: at(60 * (index + 1)) };
    return [held({ reservationId, locker, ...period }), confirmed(reservationId, locker)];
  }).flat();
}

describe('the list', () => {
  test('has the confirmed and the running reservations, and the state from which it was computed', () => {
    const state = unitAfter([
      registered,
      reported,
      reported,
      held(),
      confirmed(),
      held({ reservationId: R2, locker: 'B' }),
    ]);
    expect(onePage(state)).toEqual({
      version: 6,
      asOf: { epoch: EPOCH, seq: 2, bookings: 6 },
      timeZone: 'Europe/Berlin',
      lockers: ['A', 'B', 'C'],
      reservations: [{ reservationId: R1, locker: 'A', size: 'S', from: at(0), until: at(60), accessCode: '123456' }],
      closed: [],
    });
  });

  test('names no place in a log of which nothing is recorded', () => {
    expect(onePage(unitAfter([registered])).asOf).toEqual({ seq: 0, bookings: 0 });
  });

  test('has a use that the recorded log contains although the bookings have not adopted it', () => {
    const state = unitAfter([
      registered,
      held(),
      confirmed(),
      cancelled,
      taken('B', { fromMin: -9, untilMin: 60, reservationId: R1 }),
    ]);
    expect(findReservation(state.booking, R1)?.status).toBe('cancelled');
    expect(onePage(state).reservations).toMatchObject([{ reservationId: R1, locker: 'B' }]);
  });

  test('closes lockers that are out of service, and those that only the unit knows', () => {
    const outOfService: Past = { type: 'LockerTakenOutOfService', locker: 'B', data: { id: 'B' } };
    const page = onePage(unitAfter([registered, outOfService, taken('Z', { fromMin: 0, untilMin: 60 })]));
    expect(page.closed.map(({ locker }) => locker)).toEqual(['B', 'Z']);
    expect(page.lockers).toEqual(['A', 'B', 'C', 'Z']);
  });

  test('covers the locker of a reservation that is not registered, so that the unit can refuse it', () => {
    const state = unitAfter([registered, held({ locker: 'Q' }), confirmed(R1, 'Q')]);
    expect(onePage(state).lockers).toEqual(['A', 'B', 'C', 'Q']);
  });

  test('fills pages up to their bounds, and covers every locker once', () => {
    const lockers = Array.from({ length: 12 }, (_, index) => ({ id: `L${index}`, size: 'S' as const }));
    const past = lockers.flatMap(({ id }, index) => manyConfirmed(150, id, 1_000 * index));
    const pages = pagesOf(unitAfter([registeredWith(...lockers), ...past]));
    expect(pages).toHaveLength(6);
    expect(pages.flatMap((page) => page.lockers)).toEqual(lockers.map(({ id }) => id));
    expect(pages.flatMap((page) => page.reservations)).toHaveLength(1_800);
    for (const page of pages) {
      expect(page.reservations.length).toBeLessThanOrEqual(MAX_PAGE_RESERVATIONS);
      expect(JSON.stringify(page).length).toBeLessThanOrEqual(MAX_PAGE_BYTES);
      expect(page.reservations.every(({ locker }) => page.lockers.includes(locker))).toBe(true);
      expect(page.completeUntil).toBeUndefined();
    }
  });

  test('has the earliest reservations of a locker with more than a page of them, and says up to where', () => {
    const state = unitAfter([
      registered,
      ...manyConfirmed(MAX_PAGE_RESERVATIONS + 1),
      held({ locker: 'B' }),
      confirmed(R1, 'B'),
    ]);
    const [first, second] = pagesOf(state);
    expect(first).toMatchObject({ lockers: ['A'], completeUntil: at(60 * MAX_PAGE_RESERVATIONS) });
    expect(first?.reservations).toHaveLength(MAX_PAGE_RESERVATIONS);
    expect(first?.reservations[0]?.from).toBe(at(0));
    expect(second).toMatchObject({ lockers: ['B', 'C'], reservations: [{ reservationId: R1 }] });
    expect(second?.completeUntil).toBeUndefined();
  });
});

/** The decision on an answer to the list that was computed from `sentFrom`. */
function answered(sentFrom: UnitState, answer: Partial<CommandAnswer>, present = sentFrom) {
  return recordUnitAnswer(present, { sentFrom, page: onePage(sentFrom), answer }, NOW_MS);
}

const log = (lastSeq: number, epoch = EPOCH) => ({ epoch, lastSeq });
const accepted = { type: 'ReservationAccepted', locker: 'A', data: { reservationId: R1 } } as const;

describe('an answer', () => {
  const listed = unitAfter([registered, reported, held(), confirmed()]);

  test('accepts what the unit does not reject', () => {
    expect(answered(listed, { rejected: [] })).toEqual([accepted]);
    expect(answered(listed, {})).toEqual([accepted]);
  });

  test('decides nothing when it comes again, or when the reservation has changed since', () => {
    const once = withDecision(listed, answered(listed, {}), { commandId: 'a', atMs: NOW_MS });
    expect(answered(listed, {}, once)).toEqual([]);
    expect(answered(listed, {}, withPast(listed, cancelled))).toEqual([]);
    const moved: Past = {
      type: 'ReservationMoved',
      data: { reservationId: R1, fromLocker: 'A', toLocker: 'B', size: 'S', reason: 'occupied' },
    };
    expect(answered(listed, {}, withPast(listed, moved))).toEqual([]);
  });

  test('that refuses a reservation is recorded, and the reservation moves to another locker', () => {
    const rejected = [{ reservationId: R1, reason: 'unknown-locker' }];
    const drafts = answered(listed, { rejected });
    expect(drafts).toEqual([
      {
        type: 'ReservationRefusedByUnit',
        locker: 'A',
        data: { reservationId: R1, locker: 'A', reason: 'unknown-locker' },
      },
    ]);
    const refused = withDecision(listed, drafts, { commandId: 'a', atMs: NOW_MS });
    expect(findReservation(refused.booking, R1)).toMatchObject({ unitAck: 'rejected', failedLockers: { A: at(0) } });
    expect(answered(listed, { rejected }, refused)).toEqual([]);
    const settled = withDecision(refused, settleBookings(refused, NOW_MS), { commandId: 's', atMs: NOW_MS });
    expect(findReservation(settled.booking, R1)).toMatchObject({
      status: 'confirmed',
      locker: 'B',
      unitAck: 'pending',
    });
  });

  test('that refuses the only locker ends the reservation', () => {
    const only = unitAfter([registeredWith({ id: 'A', size: 'S' }), held(), confirmed()]);
    const rejected = [{ reservationId: R1, reason: 'locker-too-small' }];
    const refused = withDecision(only, answered(only, { rejected }), { commandId: 'a', atMs: NOW_MS });
    expect(settleBookings(refused, NOW_MS)).toMatchObject([
      { type: 'ReservationConflictDetected', data: { resolution: 'rejected' } },
      { type: 'ReservationRejected' },
    ]);
  });

  test('that names a walk-up in the locker leaves the decision to the log of the unit', () => {
    expect(answered(listed, { rejected: [{ reservationId: R1, reason: 'occupied' }] })).toEqual([]);
  });
});

describe('an active reservation without a reported use', () => {
  const active = unitAfter([registered, reported, held(), confirmed(), openRequested('o1'), started()]);
  const withAnswer = withPast(active, {
    type: 'LockerOpenAnswered',
    data: { reservationId: R1, locker: 'A', commandId: 'o1', result: 'opened' },
  });

  test('is over when the unit has its locker free and its whole log is recorded', () => {
    expect(answered(withAnswer, { log: log(1), rentals: [] })).toEqual([
      { type: 'ReservationCompleted', locker: 'A', data: { reservationId: R1, endedAt: at(0), endedBy: 'unit' } },
    ]);
  });

  test.each([
    ['the unit names it', { log: log(1), rentals: [R1] }],
    ['the log of the unit goes on', { log: log(2), rentals: [] }],
    ['the unit is in another epoch', { log: log(1, '018f0000-0000-7000-8000-000000000002'), rentals: [] }],
    ['the unit does not say how far its log is', { rentals: [] }],
    ['the unit does not say what it rents', { log: log(1) }],
  ] satisfies [string, Partial<CommandAnswer>][])('goes on when %s', (_, answer) => {
    const drafts = answered(withAnswer, answer);
    expect(drafts).toEqual([accepted]);
  });

  test('goes on when a request to open is under way, came meanwhile, or the reservation began meanwhile', () => {
    const free = { log: log(1), rentals: [] };
    expect(answered(active, free)).toEqual([accepted]);
    expect(answered(withAnswer, free, withPast(withAnswer, openRequested('o2')))).toEqual([accepted]);
    const before = unitAfter([registered, reported, held(), confirmed()]);
    expect(answered(before, free, withPast(before, started()))).toEqual([accepted]);
  });

  test('goes on when the use is reported meanwhile', () => {
    const used = withPast(withAnswer, taken('A', { fromMin: 0, untilMin: 60, reservationId: R1 }));
    expect(answered(withAnswer, { log: log(1), rentals: [] }, used)).toEqual([accepted]);
  });
});

describe('the page must be sent again once more of the log is recorded', () => {
  const ended = unitAfter([registered, reported, held(), confirmed(), started(), completed()]);
  const active = unitAfter([registered, reported, held(), confirmed(), started()]);
  const inconclusive = (sentFrom: UnitState, answer: Partial<CommandAnswer>) =>
    isAnswerInconclusive({ sentFrom, page: onePage(sentFrom), answer });

  test('when the unit runs a rental that the page lacks, or lacks one that the platform believes active', () => {
    expect(inconclusive(ended, { log: log(2), rentals: [R1] })).toBe(true);
    expect(inconclusive(active, { log: log(2), rentals: [] })).toBe(true);
  });

  test('and not when nothing is in doubt, or the whole log is recorded', () => {
    expect(inconclusive(active, { log: log(2), rentals: [R1] })).toBe(false);
    expect(inconclusive(ended, { log: log(2), rentals: [] })).toBe(false);
    expect(inconclusive(ended, { log: log(1), rentals: [R1] })).toBe(false);
    expect(inconclusive(active, {})).toBe(false);
  });
});

test('a place of the log counts as recorded when what is missing before it is lost', () => {
  const place = { epoch: EPOCH, seq: 3 };
  const { state } = given(registered, reported);
  expect(isRecordedUpTo(state, { ...place, seq: 1 })).toBe(true);
  expect(isRecordedUpTo(state, place)).toBe(false);
  expect(isRecordedUpTo(state, { epoch: 'other', seq: 1 })).toBe(false);
  const lost: Past = { type: 'UnitLogGapClosed', data: { epoch: EPOCH, fromSeq: 2, toSeq: 3, lost: true } };
  expect(isRecordedUpTo(withPast(state, lost), place)).toBe(true);
});
