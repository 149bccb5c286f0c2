/** Access codes at the keypad of a unit: matching, wrong codes, and the lock (clause 5.5 of the unit protocol). */

import { describe, expect, test } from 'bun:test';
import { join, resolve } from 'node:path';
import {
  KEYPAD_LOCK_MS,
  MAX_WRONG_CODES,
  typeAccessCode,
  WRONG_CODE_WINDOW_MS,
} from '../../../device-sim/unit/access-codes.ts';
import { closeDoor, giveBackLocker, rentAtScreen } from '../../../device-sim/unit/customer-actions.ts';
import { rebootUnit } from '../../../device-sim/unit/lifecycle.ts';
import type { DecisionContext, UnitModel } from '../../../device-sim/unit/model.ts';
import { syncReservations } from '../../../device-sim/unit/reservation-list.ts';
import type { SyncedReservation } from '../../../domain/unit-protocol/reservation-list.ts';
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

const CODE = '012345';
const WRONG = '999999';

function reservation(name: string, changes: Partial<SyncedReservation> = {}): SyncedReservation {
  const period = { from: noonPlus(-5), until: noonPlus(55) };
  return { reservationId: `PL-1000.${name}`, locker: 'B', size: 'M', ...period, accessCode: CODE, ...changes };
}

function unitWith(...reservations: SyncedReservation[]): UnitModel {
  return after(newUnit(), (unit) => syncReservations(unit, listPage(1, reservations), around()));
}

const atMinute = (minute: number, changes: Partial<DecisionContext> = {}) =>
  around({ nowMs: NOON_MS + minute * MINUTE_MS, ...changes });

/** Types codes, each at its minute after noon. @returns the reasons of the refusals, or the locker that opened */
function typeCodes(unit: UnitModel, ...typed: readonly (readonly [minute: number, code: string])[]) {
  let present = unit;
  const answers: string[] = [];
  const events: object[] = [];
  for (const [minute, code] of typed) {
    const { unit: next, answer, entries } = typeAccessCode(present, code, atMinute(minute));
    present = next;
    answers.push(answer.done ? answer.locker : answer.reason);
    events.push(...entries.map(({ type, data }) => ({ minute, type, data })));
  }
  return { unit: present, answers, events };
}

const repeated = (times: number, minute: number) => Array.from({ length: times }, () => [minute, WRONG] as const);
const raised = (minute: number) => ({
  minute,
  type: 'HardwareErrorRaised',
  data: { code: 'keypad-locked', message: expect.any(String) },
});
const cleared = (minute: number) => ({ minute, type: 'HardwareErrorCleared', data: { code: 'keypad-locked' } });

describe('a code', () => {
  test('opens the locker of its reservation with the events of a QR code', () => {
    const { answer, entries, unit } = typeAccessCode(unitWith(reservation('r1')), CODE, around());
    expect(answer).toEqual({
      done: true,
      locker: 'B',
      reservationId: 'PL-1000.r1',
      rentalId: 'id-1',
      until: noonPlus(55),
    });
    expect(entries.map(entryContent)).toEqual([
      { type: 'ReservationRedeemed', locker: 'B', data: { reservationId: 'PL-1000.r1' } },
      {
        type: 'RentalStarted',
        locker: 'B',
        data: { rentalId: 'id-1', reservationId: 'PL-1000.r1', until: noonPlus(55) },
      },
      { type: 'LockerOpened', locker: 'B', data: { cause: 'reservation' } },
    ]);
    // While the rental runs, it opens the locker again, also after the period.
    expect(typeCodes(unit, [120, CODE]).answers).toEqual(['B']);
  });

  test.each(['', '12345', '0123456', '01234a', ' 12345', '٠١٢٣٤٥', '-12345'])('of another form is none: %p', (code) => {
    const unit = unitWith(reservation('r1'));
    const decision = typeAccessCode(unit, code, around());
    expect(decision).toMatchObject({ unit, entries: [], answer: { done: false, reason: 'malformed-code' } });
  });

  test('counts as wrong before and after the period, and after the locker was given back', () => {
    const unit = unitWith(reservation('r1'));
    expect(typeCodes(unit, [-6, CODE], [55, CODE]).answers).toEqual(['wrong-code', 'wrong-code']);
    const used = after(
      typeCodes(unit, [0, CODE]).unit,
      (model) => closeDoor(model, 'B', around()),
      (model) => giveBackLocker(model, 'B', around()),
    );
    expect(typeCodes(used, [1, CODE]).answers).toEqual(['wrong-code']);
  });

  test('of two reservations opens the one that can be used, and none when both can', () => {
    const past = reservation('r0', { from: noonPlus(-90), until: noonPlus(-30) });
    expect(typeCodes(unitWith(past, reservation('r1')), [0, CODE]).answers).toEqual(['B']);
    const both = unitWith(reservation('r1'), reservation('r2', { locker: 'C' }));
    const { answers, unit } = typeCodes(both, [0, CODE]);
    expect(answers).toEqual(['ambiguous-code']);
    expect(unit.keypad.wrongAtMs).toEqual([]);
  });

  test('is right when the locker is occupied or jammed, and does not reset the count of wrong codes', () => {
    const occupied = after(unitWith(), (unit) => rentAtScreen(unit, { locker: 'B', minutes: 60 }, around()));
    const listed = (only: SyncedReservation) => ({ version: 2, bookings: 2, reservations: [only], closed: [] });
    const lockers = {
      B: listed(reservation('r1')),
      C: listed(reservation('r2', { locker: 'C', accessCode: '222222' })),
    };
    const unit = { ...occupied, synced: { lockers } };
    const { answers, events } = typeCodes(unit, ...repeated(4, 0), [1, CODE], [2, '222222'], [3, WRONG], [4, '222222']);
    expect(answers.slice(4)).toEqual(['occupied', 'C', 'wrong-code', 'keypad-locked']);
    expect(events).toContainEqual(raised(3));
    const jammed = typeAccessCode(unitWith(reservation('r1')), CODE, around({ jammedLockers: new Set(['B']) }));
    expect(jammed.answer).toMatchObject({ done: false, reason: 'jammed' });
    expect(jammed.unit.keypad.wrongAtMs).toEqual([]);
  });
});

describe('the lock', () => {
  const unit = unitWith(reservation('r1'));

  test('comes with the fifth wrong code within ten minutes, and ends after ten minutes', () => {
    const { answers, events } = typeCodes(
      unit,
      [0, WRONG],
      ...repeated(4, 9.99),
      [10, CODE],
      [19.98, CODE],
      [19.99, CODE],
    );
    expect(answers).toEqual([...Array(5).fill('wrong-code'), 'keypad-locked', 'keypad-locked', 'B']);
    expect(events.slice(0, 2)).toEqual([raised(9.99), cleared(19.99)]);
  });

  test('does not come when the first of five wrong codes is ten minutes old', () => {
    const { answers, events } = typeCodes(unit, [0, WRONG], ...repeated(4, 10), [10, CODE]);
    expect(answers.at(-1)).toBe('B');
    expect(events).not.toContainEqual(raised(10));
  });

  test('is not prolonged by what is typed meanwhile, and the count begins anew after it', () => {
    const { answers, events } = typeCodes(unit, ...repeated(5, 0), ...repeated(20, 9), ...repeated(4, 10), [11, CODE]);
    expect(answers.slice(5)).toEqual([...Array(20).fill('keypad-locked'), ...Array(4).fill('wrong-code'), 'B']);
    expect(events.slice(0, 2)).toEqual([raised(0), cleared(10)]);
  });

  test('survives a reboot, and so does the count', () => {
    const counted = after(typeCodes(unit, ...repeated(4, 0)).unit, (model) => rebootUnit(model, around()));
    const locked = typeCodes(counted, [1, WRONG]);
    expect(locked.events).toEqual([raised(1)]);
    const rebooted = after(locked.unit, (model) => rebootUnit(model, around()));
    expect(typeCodes(rebooted, [2, CODE]).answers).toEqual(['keypad-locked']);
  });

  test('lasts ten minutes from a moment at which the clock was set back', () => {
    const locked = typeCodes(unit, ...repeated(5, 50)).unit;
    expect(typeCodes(locked, [0, CODE], [9.99, CODE], [10, CODE]).answers).toEqual([
      'keypad-locked',
      'keypad-locked',
      'B',
    ]);
  });
});

test('the protocol names the limits', async () => {
  const text = await Bun.file(join(resolve(import.meta.dir, '..', '..', '..'), 'docs', 'unit-protocol.md')).text();
  const [windowMin, lockMin] = [WRONG_CODE_WINDOW_MS / MINUTE_MS, KEYPAD_LOCK_MS / MINUTE_MS];
  expect(text).toContain(
    `After ${MAX_WRONG_CODES} wrong codes within ${windowMin} minutes the unit MUST refuse every code for ${lockMin} minutes`,
  );
});
