/** The order in which a unit gets its pages: no confirmed reservation is unknown to the unit between two of them. */

import { describe, expect, test } from 'bun:test';
import { createUnit } from '../../../device-sim/unit/lifecycle.ts';
import { findSyncedReservation, type UnitModel } from '../../../device-sim/unit/model.ts';
import { syncReservations } from '../../../device-sim/unit/reservation-list.ts';
import { defaultConfiguration } from '../../../domain/configuration/default-configuration.ts';
import { requireUnit } from '../../../domain/registry/registry.ts';
import { reservationListRound } from '../../../domain/unit/reservation-list.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { MAX_PAGE_RESERVATIONS, type SyncReservations } from '../../../domain/unit-protocol/reservation-list.ts';
import { around } from '../../support/device-unit.ts';
import { type Past, UNIT, unitAfter } from '../../support/given.ts';
import { at, confirmed, held, NOW_MS, registeredWith } from '../../support/scene.ts';

const LOCKERS = ['A', 'B', 'C'].map((id) => ({ id, size: 'S' as const }));
/** So many that each locker has a page of its own. */
const PER_LOCKER = MAX_PAGE_RESERVATIONS / 2 + 1;

const idOf = (locker: string, index: number) =>
  `${UNIT}.${locker.charCodeAt(0)}000000-0000-4000-8000-${String(index).padStart(12, '0')}`;
const accepted = (reservationId: string): Past => ({ type: 'ReservationAccepted', data: { reservationId } });
const moved = (reservationId: string, fromLocker: string, toLocker: string): Past => ({
  type: 'ReservationMoved',
  locker: toLocker,
  data: { reservationId, fromLocker, toLocker, size: 'S', reason: 'a test' },
});
const booked = ({ id: locker }: { readonly id: string }): Past[] =>
  Array.from({ length: PER_LOCKER }, (_, index) => {
    const reservationId = idOf(locker, index);
    const period = { from: at(60 * index), until: at(60 * (index + 1)) };
    return [held({ reservationId, locker, ...period }), confirmed(reservationId, locker), accepted(reservationId)];
  }).flat();

const before = unitAfter([registeredWith(...LOCKERS), ...LOCKERS.flatMap(booked)]);
const roundOf = (state: UnitState) => reservationListRound(state, requireUnit(state.registry), () => '123456', NOW_MS);
const applied = (unit: UnitModel, page: SyncReservations) =>
  syncReservations(unit, page, around({ nowMs: NOW_MS })).unit;
const emptyUnit = createUnit(
  { name: UNIT, lockers: LOCKERS, configuration: defaultConfiguration(600) },
  around({ nowMs: NOW_MS, newId: () => 'epoch-0' }),
).unit;
const synced = roundOf(before).reduce(applied, emptyUnit);
const lockerOf = (unit: UnitModel, id: string) => findSyncedReservation(unit, id)?.locker;

/** Gives the unit the round of a state, and checks after every page that the unit knows the reservations. */
function gets(state: UnitState, ids: readonly string[]): UnitModel {
  return roundOf(state).reduce((unit, page) => {
    const next = applied(unit, page);
    expect(ids.filter((id) => lockerOf(next, id) === undefined)).toEqual([]);
    return next;
  }, synced);
}

describe('between two pages', () => {
  const [R, S, T] = [idOf('A', 0), idOf('B', 0), idOf('C', 0)];

  test('of a list that has not changed, each locker has a page of its own, and the unit knows every reservation', () => {
    expect(roundOf(before).map(({ lockers }) => lockers)).toEqual([['A'], ['B'], ['C']]);
    expect([R, S, T].map((id) => lockerOf(synced, id))).toEqual(['A', 'B', 'C']);
  });

  test.each([
    ['one moves to a later page', [moved(R, 'A', 'C')], { [R]: 'C' }],
    ['one moves to an earlier page', [moved(T, 'C', 'A')], { [T]: 'A' }],
    ['two change places', [moved(R, 'A', 'C'), moved(T, 'C', 'A')], { [R]: 'C', [T]: 'A' }],
    [
      'three change places',
      [moved(R, 'A', 'B'), moved(S, 'B', 'C'), moved(T, 'C', 'A')],
      { [R]: 'B', [S]: 'C', [T]: 'A' },
    ],
    [
      'two change places, one of them by two moves that the unit did not hear of one by one',
      [moved(R, 'A', 'B'), moved(R, 'B', 'C'), moved(T, 'C', 'A')],
      { [R]: 'C', [T]: 'A' },
    ],
  ] as const)('the unit knows every confirmed reservation when %s', (_, moves, expected) => {
    const unit = gets(unitAfter(moves, before), [R, S, T]);
    for (const [id, locker] of Object.entries(expected)) expect(lockerOf(unit, id)).toBe(locker);
    const listed = Object.values(unit.synced.lockers).flatMap(({ reservations }) => reservations);
    expect(listed).toHaveLength(LOCKERS.length * PER_LOCKER);
  });

  test('a page with a new reservation comes first', () => {
    const late = { reservationId: idOf('C', PER_LOCKER), locker: 'C', from: at(-60), until: at(-1) };
    const state = unitAfter([held(late), confirmed(late.reservationId, 'C')], before);
    expect(roundOf(state).map(({ lockers }) => lockers)).toEqual([['C'], ['A'], ['B']]);
  });

  test('a reservation that the unit has accepted at its new locker is listed there alone', () => {
    const state = unitAfter([moved(R, 'A', 'C'), accepted(R), accepted(T)], before);
    expect(roundOf(state).map(({ lockers }) => lockers)).toEqual([['A'], ['B'], ['C']]);
    expect(roundOf(state).flatMap(({ reservations }) => reservations)).toHaveLength(LOCKERS.length * PER_LOCKER);
  });
});
