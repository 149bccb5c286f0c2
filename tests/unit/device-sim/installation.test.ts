/** Lockers that a technician installs in a unit and removes from it. */

import { describe, expect, test } from 'bun:test';
import { giveBackLocker, rentAtScreen } from '../../../device-sim/unit/customer-actions.ts';
import { fitLockers, installLocker, removeLocker } from '../../../device-sim/unit/installation.ts';
import { findLocker, type UnitModel } from '../../../device-sim/unit/model.ts';
import { syncReservations } from '../../../device-sim/unit/reservation-list.ts';
import { MAX_LOCKERS_PER_UNIT } from '../../../domain/vocabulary.ts';
import { after, around, listPage, newUnit, noonPlus } from '../../support/device-unit.ts';

const D = { id: 'D', size: 'XL' } as const;
const install = (unit: UnitModel) => installLocker(unit, D);
const rent = (locker: string) => (unit: UnitModel) => rentAtScreen(unit, { locker, minutes: 60 }, around());
const ids = ({ lockers }: UnitModel) => lockers.map(({ id }) => id);

describe('a locker that is installed', () => {
  test('is closed, empty and for rent, and the log goes on without an event', () => {
    const before = newUnit();
    const { unit, entries, answer } = install(before);
    expect(answer).toEqual({ done: true, locker: { ...D, door: 'closed' } });
    expect(entries).toEqual([]);
    expect(unit.log).toBe(before.log);
    expect(rent('D')(unit).answer).toMatchObject({ done: true, locker: 'D' });
  });

  test('twice is installed once, and a rental in it goes on', () => {
    const unit = after(newUnit(), install, rent('D'));
    expect(install(unit).unit).toBe(unit);
  });

  test('is refused when its id has another size, or the unit is full', () => {
    const unit = after(newUnit(), install);
    expect(installLocker(unit, { id: 'D', size: 'S' }).answer).toMatchObject({ done: false, reason: 'locker-exists' });
    const full = Array.from({ length: MAX_LOCKERS_PER_UNIT }, (_, index) => ({ id: `N${index}`, size: 'S' as const }));
    const filled = fitLockers(newUnit(), full).unit;
    expect(install(filled).answer).toMatchObject({ done: false, reason: 'too-many-lockers' });
  });

  test('keeps what a page said of it before: it is not rented out while the platform has it closed', () => {
    const page = listPage(3, [], { lockers: ['D'], closed: [{ locker: 'D' }] });
    const unit = syncReservations(newUnit(), page, around()).unit;
    expect(rent('D')(install(unit).unit).answer).toMatchObject({ done: false, reason: 'out-of-service' });
  });

  test('holds no reservation that the unit rejected before', () => {
    const reservation = {
      ...({ reservationId: 'PL-1000.r', locker: 'D', size: 'XL', accessCode: '123456' } as const),
      ...{ from: noonPlus(0), until: noonPlus(60) },
    };
    const page = listPage(3, [reservation], { lockers: ['D'] });
    const { unit, answer } = syncReservations(newUnit(), page, around());
    expect(answer.rejected).toEqual([{ reservationId: 'PL-1000.r', reason: 'unknown-locker' }]);
    expect(rent('D')(install(unit).unit).answer).toMatchObject({ done: true });
    expect(syncReservations(install(unit).unit, page, around()).answer.rejected).toEqual([]);
  });
});

test('what pages say of lockers that the unit lacks is bounded, and what they say of its own stays', () => {
  let unit = syncReservations(newUnit(), listPage(1, [], { lockers: ['A'] }), around()).unit;
  for (const batch of [1, 2, 3]) {
    const lockers = Array.from({ length: MAX_LOCKERS_PER_UNIT }, (_, index) => `N${batch}-${index}`);
    unit = syncReservations(unit, listPage(batch + 1, [], { lockers }), around()).unit;
  }
  const known = Object.keys(unit.synced.lockers);
  expect(known).toHaveLength(MAX_LOCKERS_PER_UNIT + 1);
  expect(known).toContain('A');
  expect(known.filter((id) => id.startsWith('N3-'))).toHaveLength(MAX_LOCKERS_PER_UNIT);
});

describe('a locker that is removed', () => {
  test('is gone, and a page rejects its reservations', () => {
    const { unit, answer } = removeLocker(newUnit(), 'B');
    expect(answer).toEqual({ done: true, locker: 'B' });
    expect(findLocker(unit, 'B')).toBeUndefined();
    expect(rent('B')(unit).answer).toMatchObject({ done: false, reason: 'unknown-locker' });
    expect(removeLocker(unit, 'B').answer).toMatchObject({ done: false, reason: 'unknown-locker' });
  });

  test('is refused while it is rented or open', () => {
    const rented = after(newUnit(), rent('B'));
    expect(removeLocker(rented, 'B').answer).toMatchObject({ done: false, reason: 'occupied' });
    const open = { ...newUnit(), lockers: [{ id: 'B', size: 'M', door: 'open' }] } as const;
    expect(removeLocker(open, 'B').answer).toMatchObject({ done: false, reason: 'door-open' });
    expect(giveBackLocker(open, 'B', around()).answer).toMatchObject({ reason: 'not-rented' });
  });
});

test('a unit fits the registered lockers, and keeps lockers that are rented', () => {
  const unit = after(newUnit(), rent('B'));
  const fitted = fitLockers(unit, [{ id: 'A', size: 'XL' }, D]).unit;
  expect(ids(fitted)).toEqual(['A', 'B', 'D']);
  expect(findLocker(fitted, 'A')).toMatchObject({ size: 'XL' });
  expect(findLocker(fitted, 'B')?.rental).toBeDefined();
  expect(fitLockers(newUnit(), newUnit().lockers).unit.lockers).toEqual(newUnit().lockers);
});
