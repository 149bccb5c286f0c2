/** What a unit does with pages of its list of reservations. */

import { describe, expect, test } from 'bun:test';
import { executeCommand, openLockerByCommand } from '../../../device-sim/unit/commands.ts';
import {
  closeDoor,
  giveBackLocker,
  redeemReservation,
  rentAtScreen,
} from '../../../device-sim/unit/customer-actions.ts';
import { findSyncedReservation, type UnitModel } from '../../../device-sim/unit/model.ts';
import { syncReservations } from '../../../device-sim/unit/reservation-list.ts';
import type { SyncedReservation, SyncReservations } from '../../../domain/unit-protocol/reservation-list.ts';
import { after, around, entryContent, listPage, newUnit, noonPlus } from '../../support/device-unit.ts';

const R1 = 'PL-1000.11111111-1111-7111-8111-111111111111';
const R2 = 'PL-1000.22222222-2222-7222-8222-222222222222';

function reservation(changes: Partial<SyncedReservation> = {}): SyncedReservation {
  return {
    reservationId: R1,
    locker: 'B',
    size: 'M',
    from: noonPlus(0),
    until: noonPlus(90),
    accessCode: '123456',
    ...changes,
  };
}

const claims = { aud: 'PL-1000', sub: R1, locker: 'B', from: noonPlus(0), until: noonPlus(90), asOf: 1 };
const listed =
  (version: number, reservations: readonly SyncedReservation[] = [], changes: Partial<SyncReservations> = {}) =>
  (unit: UnitModel) =>
    syncReservations(unit, listPage(version, reservations, changes), around());
const redeem = (unit: UnitModel) => redeemReservation(unit, claims, around());
const open = (unit: UnitModel) =>
  openLockerByCommand(unit, 'open-1', { locker: 'B', reservationId: R1, until: noonPlus(90) }, around());
const shut = (unit: UnitModel) => closeDoor(unit, 'B', around());
const rent = (locker: string) => (unit: UnitModel) => rentAtScreen(unit, { locker, minutes: 60 }, around());
const asOf = (seq: number, epoch = 'epoch-0') => ({ asOf: { epoch, seq, bookings: 9 } });
const idOf = (unit: UnitModel) => findSyncedReservation(unit, R1)?.reservationId;

describe('a page', () => {
  test('is kept, and the answer names the end of the log and the running rentals', () => {
    const { unit, answer } = syncReservations(after(newUnit(), redeem), listPage(3, [reservation()]), around());
    expect(findSyncedReservation(unit, R1)).toEqual(reservation());
    const log = { epoch: 'epoch-0', lastSeq: unit.log.lastSeq };
    expect(answer).toEqual({ status: 'done', rejected: [], log, rentals: [R1] });
  });

  test('replaces what the unit knows of its lockers, and of no other', () => {
    const other = reservation({ reservationId: R2, locker: 'C', size: 'L' });
    const both = after(newUnit(), listed(1, [reservation(), other]));
    const { unit } = listed(2, [], { lockers: ['B'] })(both);
    expect(idOf(unit)).toBeUndefined();
    expect(findSyncedReservation(unit, R2)).toEqual(other);
  });

  test.each([
    ['bookings', { asOf: { epoch: 'epoch-0', seq: 99, bookings: 2 } }],
    ['version', { version: 2 }],
  ])('with older %s than the one that the unit has changes nothing', (_, changes) => {
    const unit = after(newUnit(), listed(3, [reservation()]), redeem, shut);
    const decision = listed(3, [], changes)(unit);
    expect(decision.unit).toBe(unit);
    expect(decision.entries).toEqual([]);
    expect(decision.answer).toMatchObject({ status: 'done', rentals: [R1] });
  });

  test('that comes again changes nothing and is answered with what is true then', () => {
    const command = { commandId: 'c', expiresAt: noonPlus(1), syncReservations: listPage(3, [reservation()]) };
    const first = executeCommand(newUnit(), command, around());
    const again = executeCommand(after(first.unit, redeem), command, around());
    expect(again.entries).toEqual([]);
    expect(again.answer).toMatchObject({ commandId: 'c', status: 'done', rentals: [R1] });
    expect(Object.keys(again.unit.answeredCommands)).toEqual([]);
  });

  test('has reservations rejected that the unit cannot keep, and the others kept', () => {
    const rejected = [
      reservation({ locker: 'Z' }),
      reservation({ reservationId: R2, locker: 'A', size: 'S' }),
      reservation({ reservationId: `${R2}1`, locker: 'C', size: 'XL' }),
    ];
    const later = reservation({
      reservationId: `${R2}0`,
      locker: 'A',
      size: 'S',
      from: noonPlus(60),
      until: noonPlus(120),
    });
    const lockers = ['A', 'B', 'C', 'Z'];
    const decision = listed(1, [...rejected, later], { lockers })(after(newUnit(), rent('A')));
    expect(decision.answer.rejected).toEqual([
      { reservationId: R1, reason: 'unknown-locker' },
      { reservationId: R2, reason: 'occupied' },
      { reservationId: `${R2}1`, reason: 'locker-too-small' },
    ]);
    expect(Object.values(decision.unit.synced.lockers).flatMap(({ reservations }) => reservations)).toEqual([later]);
    expect(Object.keys(decision.unit.synced.lockers)).toEqual(['A', 'B', 'C', 'Z']);
  });

  test('has no reservation rejected because it rents its locker itself', () => {
    expect(listed(1, [reservation()])(after(newUnit(), open)).answer.rejected).toEqual([]);
  });
});

describe('a rental whose reservation a page lacks', () => {
  // The entries of `newUnit` and of the redemption: 1 state report, 2 redeemed, 3 rental started, 4 opened.
  const rented = after(newUnit(), redeem, shut);

  test('ends when the page was computed from a log with its beginning', () => {
    const decision = listed(9, [], asOf(3))(rented);
    expect(decision.entries.map(entryContent)).toEqual([
      { type: 'RentalEnded', locker: 'B', data: { rentalId: 'id-1', reservationId: R1, reason: 'released' } },
    ]);
    expect(redeemReservation(decision.unit, { ...claims, asOf: 99 }, around()).answer).toMatchObject({
      reason: 'spent',
    });
  });

  test.each([
    ['an earlier place of the log', asOf(2)],
    ['another epoch', asOf(1_000, 'epoch-1')],
    ['no log at all', { asOf: { seq: 0, bookings: 9 } }],
    ['the same log, and is about other lockers', { lockers: ['A', 'C'] }],
  ])('goes on when the page was computed from %s', (_, changes) => {
    const named = after(newUnit(), listed(1, [reservation()]), redeem, shut);
    for (const unit of [rented, named]) {
      const decision = listed(9, [], changes)(unit);
      expect(decision.entries).toEqual([]);
      expect(decision.unit.lockers[1]?.rental).toMatchObject({ reservationId: R1 });
      expect(decision.unit.usedReservations).toEqual({});
      expect(redeem(decision.unit).answer).toMatchObject({ done: true, locker: 'B' });
    }
  });

  test('that a command has started goes on in the same way', () => {
    const opened = after(newUnit(), open, shut);
    expect(listed(9, [], asOf(1))(opened).entries).toEqual([]);
    expect(listed(9, [], asOf(2))(opened).entries.map(({ type }) => type)).toEqual(['RentalEnded']);
  });

  test('goes on when another page has the reservation in another locker', () => {
    const moved = reservation({ locker: 'C', size: 'L' });
    const unit = after(rented, listed(9, [moved], { lockers: ['C'] }));
    expect(listed(9, [], { lockers: ['B'] })(unit).entries).toEqual([]);
  });

  test('ends only when its door has closed', () => {
    const decision = listed(9)(after(newUnit(), redeem));
    expect(decision.entries).toEqual([]);
    const closed = closeDoor(decision.unit, 'B', around());
    expect(closed.entries.map(({ type }) => type)).toEqual(['LockerClosed', 'RentalEnded']);
    expect(closed.unit.lockers[1]).toEqual({ id: 'B', size: 'M', door: 'closed' });
  });

  test('goes on when a newer page names it again before its door has closed', () => {
    const unit = after(newUnit(), redeem, listed(2), listed(3, [reservation()]));
    expect(shut(unit).entries.map(({ type }) => type)).toEqual(['LockerClosed']);
  });

  test('goes on when it is a walk-up', () => {
    const unit = after(newUnit(), rent('A'), (rented) => closeDoor(rented, 'A', around()));
    expect(listed(9)(unit).entries).toEqual([]);
  });

  test('does not end that of the customer before who has given the locker back', () => {
    // R1 gave back and R2 redeemed while the unit was cut off; the platform has recorded neither.
    const second = { ...claims, sub: R2 };
    const cutOff = after(
      newUnit(),
      listed(1, [reservation(), reservation({ reservationId: R2 })]),
      redeem,
      shut,
      (unit) => giveBackLocker(unit, 'B', around()),
      (unit) => redeemReservation(unit, second, around()),
      shut,
    );
    const decision = listed(9, [reservation()], asOf(4))(cutOff);
    expect(decision.entries).toEqual([]);
    expect(decision.unit.lockers[1]?.rental).toMatchObject({ reservationId: R2 });
    expect(decision.answer.rentals).toEqual([R2]);
  });
});
