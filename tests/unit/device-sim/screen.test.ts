import { describe, expect, test } from 'bun:test';
import {
  closeDoor,
  giveBackLocker,
  openLocker,
  redeemReservation,
  rentAtScreen,
} from '../../../device-sim/unit/customer-actions.ts';
import type { Decision, Outcome, UnitModel } from '../../../device-sim/unit/model.ts';
import { syncReservations } from '../../../device-sim/unit/reservation-list.ts';
import type { SyncedReservation, SyncReservations } from '../../../domain/unit-protocol/reservation-list.ts';
import {
  after,
  around,
  entryContent,
  listPage,
  MINUTE_MS,
  NOON_MS,
  newUnit,
  noonPlus,
} from '../../support/device-unit.ts';

const R1 = 'PL-1000.11111111-1111-7111-8111-111111111111';
const CLAIMS = { aud: 'PL-1000', sub: R1, locker: 'B', from: noonPlus(-5), until: noonPlus(55), asOf: 7 };

function reservation(changes: Partial<SyncedReservation> = {}): SyncedReservation {
  return {
    reservationId: R1,
    locker: 'B',
    size: 'M',
    from: noonPlus(30),
    until: noonPlus(90),
    accessCode: '123456',
    ...changes,
  };
}

const rent =
  (locker: string, minutes = 60) =>
  (unit: UnitModel) =>
    rentAtScreen(unit, { locker, minutes }, around());
const shut = (locker: string) => (unit: UnitModel) => closeDoor(unit, locker, around());
const sync =
  (version: number, ...reservations: SyncedReservation[]) =>
  (unit: UnitModel) =>
    syncReservations(unit, listPage(version, reservations), around());
const useToken = (unit: UnitModel) => redeemReservation(unit, CLAIMS, around());

function refusalOf({ unit, entries, answer }: Decision<Outcome<object>>, before: UnitModel): string {
  expect(entries).toEqual([]);
  expect(unit).toBe(before);
  return answer.done ? 'done' : answer.reason;
}

describe('a walk-up', () => {
  test('pays, rents and opens, in this order', () => {
    const unit = newUnit();
    const decision = rentAtScreen(unit, { locker: 'B', minutes: 90 }, around());
    const payment = { reference: 'id-2', amount: 450, currency: 'EUR', rentalId: 'id-1' };
    expect(decision.entries.map(entryContent)).toEqual([
      { type: 'PaymentStarted', locker: 'B', data: payment },
      { type: 'PaymentSucceeded', locker: 'B', data: payment },
      {
        type: 'RentalStarted',
        locker: 'B',
        data: { rentalId: 'id-1', until: noonPlus(90), price: { amount: 450, currency: 'EUR' } },
      },
      { type: 'LockerOpened', locker: 'B', data: { cause: 'walk-up' } },
    ]);
    expect(decision.entries.map(({ seq, v, time }) => ({ seq, v, time }))).toEqual(
      [2, 3, 4, 5].map((seq) => ({ seq, v: 1, time: noonPlus(0) })),
    );
    expect(decision.unit.log.lastSeq).toBe(5);
    expect(decision.unit.lockers[1]).toEqual({
      id: 'B',
      size: 'M',
      door: 'open',
      rental: { rentalId: 'id-1', startedAt: noonPlus(0), until: noonPlus(90), startedSeq: 4 },
    });
    expect(decision.answer).toEqual({
      done: true,
      locker: 'B',
      rentalId: 'id-1',
      until: noonPlus(90),
      price: { amount: 450, currency: 'EUR' },
    });
  });

  test('is marked as offline when the unit is offline', () => {
    const { entries } = rentAtScreen(newUnit(), { minutes: 60 }, around({ isOffline: true }));
    expect(entries.map(({ offline }) => offline)).toEqual([true, true, true, true]);
  });

  const picks: { name: string; unit: UnitModel; jammed?: string[]; minutes?: number; locker: string | undefined }[] = [
    { name: 'the first locker', unit: newUnit(), locker: 'A' },
    { name: 'the next locker when the first is rented', unit: after(newUnit(), rent('A')), locker: 'B' },
    {
      name: 'the next locker when one is reserved within the period',
      unit: after(newUnit(), rent('A'), sync(1, reservation())),
      locker: 'C',
    },
    {
      name: 'a locker that is reserved later',
      unit: after(newUnit(), rent('A'), sync(1, reservation())),
      minutes: 30,
      locker: 'B',
    },
    { name: 'the first locker that is not jammed', unit: newUnit(), jammed: ['A', 'B'], locker: 'C' },
    {
      name: 'no locker when all are rented',
      unit: after(newUnit(), rent('A'), rent('B'), rent('C')),
      locker: undefined,
    },
    {
      name: 'no locker when the free ones are jammed',
      unit: after(newUnit(), rent('A'), rent('B')),
      jammed: ['C'],
      locker: undefined,
    },
  ];
  for (const { name, unit, jammed = [], minutes = 60, locker } of picks) {
    test(`is offered ${name}`, () => {
      const { answer } = rentAtScreen(unit, { minutes }, around({ jammedLockers: new Set(jammed) }));
      if (locker === undefined) expect(answer).toMatchObject({ done: false, reason: 'no-locker-free' });
      else expect(answer).toMatchObject({ done: true, locker });
    });
  }

  const refusals: { name: string; unit?: UnitModel; locker?: string; minutes?: number; reason: string }[] = [
    { name: 'an unknown locker', locker: 'Z', reason: 'unknown-locker' },
    { name: 'a rented locker', unit: after(newUnit(), rent('A')), locker: 'A', reason: 'occupied' },
    { name: 'a reserved locker', unit: after(newUnit(), sync(1, reservation())), locker: 'B', reason: 'reserved' },
    { name: 'less than the shortest time', locker: 'A', minutes: 14, reason: 'period' },
    { name: 'more than the longest time', locker: 'A', minutes: 60 * 24 * 7 + 1, reason: 'period' },
  ];
  for (const { name, unit = newUnit(), locker, minutes = 60, reason } of refusals) {
    test(`is refused for ${name}`, () => {
      const order = { minutes, ...(locker === undefined ? {} : { locker }) };
      expect(refusalOf(rentAtScreen(unit, order, around()), unit)).toBe(reason);
    });
  }

  test('is refused outside of the opening hours, which the refusal names, in the time zone of the list', () => {
    const unit = after(newUnit(), sync(1));
    // Noon UTC on this Wednesday is 14:00 in Warsaw.
    const openingHours = [{ weekday: 3, opens: '08:00', closes: '14:00' }];
    const { configuration } = unit;
    const limited = { ...unit, configuration: { ...configuration, values: { ...configuration.values, openingHours } } };
    const { answer } = rentAtScreen(limited, { minutes: 60 }, around());
    expect(answer).toMatchObject({ done: false, reason: 'closed' });
    if (!answer.done) expect(answer.detail).toContain('08:00 to 14:00 (Europe/Warsaw)');
    const open = { openingHours: [{ weekday: 3, opens: '08:00', closes: '15:00' }] };
    const untilThree = {
      ...limited,
      configuration: { ...configuration, values: { ...configuration.values, ...open } },
    };
    expect(rentAtScreen(untilThree, { minutes: 60 }, around()).answer).toMatchObject({ done: true });
    expect(rentAtScreen(untilThree, { minutes: 61 }, around()).answer).toMatchObject({ reason: 'closed' });
  });

  test('is offered no locker that is closed in its period, until a newer list opens it', () => {
    const closing = (closed: SyncReservations['closed']) => (unit: UnitModel) =>
      syncReservations(unit, listPage(1, [], { closed }), around());
    const closed = after(
      newUnit(),
      closing([{ locker: 'A' }, { locker: 'B', from: noonPlus(30), until: noonPlus(40) }]),
    );
    expect(refusalOf(rentAtScreen(closed, { locker: 'A', minutes: 15 }, around()), closed)).toBe('out-of-service');
    expect(rentAtScreen(closed, { minutes: 30 }, around()).answer).toMatchObject({ locker: 'B' });
    expect(rentAtScreen(closed, { minutes: 60 }, around()).answer).toMatchObject({ locker: 'C' });
    const maintained = after(newUnit(), closing([{ until: noonPlus(5) }]));
    expect(refusalOf(rentAtScreen(maintained, { minutes: 60 }, around()), maintained)).toBe('no-locker-free');
    expect(rentAtScreen(after(closed, sync(2)), { locker: 'A', minutes: 15 }, around()).answer.done).toBe(true);
  });

  test('is refused a locker whose size has no price', () => {
    const unit = newUnit();
    const { configuration } = unit;
    const [small] = configuration.values.prices;
    if (small === undefined) throw new Error('there are no prices');
    const smallOnly = {
      ...unit,
      configuration: { ...configuration, values: { ...configuration.values, prices: [small] } },
    };
    expect(refusalOf(rentAtScreen(smallOnly, { locker: 'B', minutes: 60 }, around()), smallOnly)).toBe('not-for-rent');
  });

  test('rents nothing when the terminal declines', () => {
    const { unit, entries, answer } = rentAtScreen(
      newUnit(),
      { locker: 'A', minutes: 60 },
      around({ doesTerminalDecline: true }),
    );
    expect(entries.map(({ type }) => type)).toEqual(['PaymentStarted', 'PaymentFailed']);
    expect(entries[1]?.data).toMatchObject({ reason: 'declined' });
    expect(answer).toMatchObject({ done: false, reason: 'declined' });
    expect(unit.lockers).toEqual(newUnit().lockers);
  });

  test('charges nothing when the door is jammed', () => {
    const jam = around({ jammedLockers: new Set(['A']) });
    const { unit, entries, answer } = rentAtScreen(newUnit(), { locker: 'A', minutes: 60 }, jam);
    expect(entries.map(({ type }) => type)).toEqual(['PaymentStarted', 'LockerOpenFailed', 'PaymentFailed']);
    expect(answer).toMatchObject({ done: false, reason: 'jammed' });
    expect(unit.lockers).toEqual(newUnit().lockers);
  });
});

describe('a QR code', () => {
  test('starts the rental of a reservation that is not on the list of the unit', () => {
    const { entries, answer } = redeemReservation(newUnit(), CLAIMS, around());
    expect(entries.map(entryContent)).toEqual([
      { type: 'ReservationRedeemed', locker: 'B', data: { reservationId: R1 } },
      { type: 'RentalStarted', locker: 'B', data: { rentalId: 'id-1', reservationId: R1, until: noonPlus(55) } },
      { type: 'LockerOpened', locker: 'B', data: { cause: 'reservation' } },
    ]);
    expect(answer).toEqual({ done: true, locker: 'B', reservationId: R1, rentalId: 'id-1', until: noonPlus(55) });
  });

  test('shown again opens the door and starts nothing', () => {
    const unit = after(newUnit(), useToken, shut('B'));
    const { entries } = redeemReservation(unit, CLAIMS, around({ nowMs: NOON_MS + 120 * MINUTE_MS }));
    expect(entries.map(entryContent)).toEqual([{ type: 'LockerOpened', locker: 'B', data: { cause: 'reservation' } }]);
  });

  test('opens the locker to which the platform has moved the reservation', () => {
    const moved = reservation({ locker: 'C', from: noonPlus(0) });
    const { answer } = redeemReservation(after(newUnit(), sync(1, moved)), CLAIMS, around());
    expect(answer).toMatchObject({ done: true, locker: 'C', until: noonPlus(90) });
  });

  const listed = (page: Partial<SyncReservations>) => (unit: UnitModel) =>
    syncReservations(unit, listPage(7, [], page), around());

  test.each([
    ['lacks it and is as new as the code', {}],
    ['lacks it and is newer than the code', { asOf: { seq: 0, bookings: 8 } }],
    ['lacks it among all that begin before a later time', { completeUntil: noonPlus(0) }],
  ])('opens nothing when the list of the unit %s', (_, page) => {
    const unit = after(newUnit(), listed(page));
    expect(refusalOf(redeemReservation(unit, CLAIMS, around()), unit)).toBe('revoked');
  });

  test.each([
    ['is older than the code', { asOf: { seq: 0, bookings: 6 } }],
    ['covers other lockers', { lockers: ['A', 'C'] }],
    ['ends before the reservation begins', { completeUntil: noonPlus(-5) }],
  ])('opens when the list of the unit lacks the reservation and %s', (_, page) => {
    const unit = after(newUnit(), listed(page));
    expect(redeemReservation(unit, CLAIMS, around()).answer).toMatchObject({ done: true, locker: 'B' });
  });

  test('opens nothing after the locker was given back', () => {
    const unit = after(newUnit(), useToken, shut('B'), (used) => giveBackLocker(used, 'B', around()));
    expect(refusalOf(redeemReservation(unit, CLAIMS, around()), unit)).toBe('spent');
  });

  test('opens nothing before and after its period, on the clock of the unit', () => {
    const unit = newUnit();
    for (const minutes of [-6, 55, 500]) {
      const then = around({ nowMs: NOON_MS + minutes * MINUTE_MS });
      expect(refusalOf(redeemReservation(unit, CLAIMS, then), unit)).toBe('period');
    }
  });

  test('opens no locker that another customer rents, and none that does not exist', () => {
    const taken = after(newUnit(), rent('B'));
    expect(refusalOf(redeemReservation(taken, CLAIMS, around()), taken)).toBe('occupied');
    const unit = newUnit();
    expect(refusalOf(redeemReservation(unit, { ...CLAIMS, locker: 'Z' }, around()), unit)).toBe('unknown-locker');
  });

  test('starts no rental when the door is jammed', () => {
    const { unit, entries, answer } = redeemReservation(newUnit(), CLAIMS, around({ jammedLockers: new Set(['B']) }));
    expect(entries.map(entryContent)).toEqual([{ type: 'LockerOpenFailed', locker: 'B', data: { reason: 'jammed' } }]);
    expect(answer).toMatchObject({ done: false, reason: 'jammed' });
    expect(unit.lockers).toEqual(newUnit().lockers);
  });
});

describe('a door', () => {
  const table: { action: typeof openLocker; name: string; unit: UnitModel; types: string[] | string }[] = [
    {
      action: openLocker,
      name: 'opens for the customer who rents it',
      unit: after(newUnit(), rent('A'), shut('A')),
      types: ['LockerOpened'],
    },
    { action: openLocker, name: 'does not open twice', unit: after(newUnit(), rent('A')), types: 'door-open' },
    { action: openLocker, name: 'does not open without a rental', unit: newUnit(), types: 'not-rented' },
    { action: closeDoor, name: 'closes', unit: after(newUnit(), rent('A')), types: ['LockerClosed'] },
    { action: closeDoor, name: 'does not close twice', unit: newUnit(), types: 'door-closed' },
  ];
  for (const { action, name, unit, types } of table) {
    test(name, () => {
      const decision = action(unit, 'A', around());
      if (typeof types === 'string') expect(refusalOf(decision, unit)).toBe(types);
      else expect(decision.entries.map(({ type }) => type)).toEqual(types);
    });
  }

  test('that is jammed stays shut', () => {
    const unit = after(newUnit(), rent('A'), shut('A'));
    const decision = openLocker(unit, 'A', around({ jammedLockers: new Set(['A']) }));
    expect(decision.entries.map(({ type }) => type)).toEqual(['LockerOpenFailed']);
    expect(decision.unit.lockers[0]?.door).toBe('closed');
  });

  test('that does not exist is refused', () => {
    for (const action of [openLocker, closeDoor, giveBackLocker]) {
      const unit = newUnit();
      expect(refusalOf(action(unit, 'Z', around()), unit)).toBe('unknown-locker');
    }
  });
});

describe('giving back', () => {
  test('ends the rental', () => {
    const { unit, entries } = giveBackLocker(after(newUnit(), rent('A'), shut('A')), 'A', around());
    expect(entries.map(entryContent)).toEqual([
      { type: 'RentalEnded', locker: 'A', data: { rentalId: 'id-1', reason: 'given-back' } },
    ]);
    expect(unit.lockers[0]).toEqual({ id: 'A', size: 'S', door: 'closed' });
  });

  test('names the reservation', () => {
    const { entries } = giveBackLocker(after(newUnit(), useToken, shut('B')), 'B', around());
    expect(entries[0]?.data).toEqual({ rentalId: 'id-1', reservationId: R1, reason: 'given-back' });
  });

  test('needs a rental and a closed door', () => {
    const unrented = newUnit();
    expect(refusalOf(giveBackLocker(unrented, 'A', around()), unrented)).toBe('not-rented');
    const ajar = after(newUnit(), rent('A'));
    expect(refusalOf(giveBackLocker(ajar, 'A', around()), ajar)).toBe('door-open');
  });
});
