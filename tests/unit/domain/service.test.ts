import { describe, expect, test } from 'bun:test';
import type { EventOf } from '../../../domain/events/catalogue.ts';
import type { Period } from '../../../domain/period.ts';
import { requireRegistered } from '../../../domain/registry/registry.ts';
import { displacementReason, isForRent, nextServiceChangeAtMs } from '../../../domain/registry/service.ts';
import { given, type Past } from '../../support/given.ts';
import { at, atMs, registered } from '../../support/scene.ts';

/** The locker A leaves service at the present time of the scene. */
function out(data: Omit<EventOf<'LockerTakenOutOfService'>, 'id'>): Past {
  return { type: 'LockerTakenOutOfService', atMs: atMs(0), data: { id: 'A', ...data } };
}

const back: Past = { type: 'LockerReturnedToService', data: { id: 'A' } };
const maintenance: Past = {
  type: 'UnitMaintenancePlanned',
  data: { id: 'm-1', from: at(60), until: at(120), reason: 'paint' },
};
const cancelled: Past = { type: 'UnitMaintenanceCancelled', data: { id: 'm-1' } };
const retired: Past = { type: 'UnitRetired', data: {} };

function minutes(from: number, until: number): Period {
  return { fromMs: atMs(from), untilMs: atMs(until) };
}

const unitAfter = (...past: readonly Past[]) => requireRegistered(given(registered, ...past).state.registry);

describe('a locker for a period', () => {
  const cases: readonly (readonly [string, readonly Past[], string, Period, boolean, RegExp | undefined])[] = [
    ['in service', [], 'A', minutes(0, 60), true, undefined],
    ['that does not exist', [], 'Z', minutes(0, 60), false, /no locker Z/],
    ['that was removed', [{ type: 'LockerRemoved', data: { id: 'A' } }], 'A', minutes(0, 60), false, /no locker A/],
    ['out of service as old events say it', [out({})], 'A', minutes(0, 60), false, /A is out of service/],
    ['out of service now', [out({ when: 'now' })], 'A', minutes(0, 60), false, /A is out of service/],
    ['out of service now, another one', [out({ when: 'now' })], 'B', minutes(0, 60), true, undefined],
    ['out of service when free', [out({ when: 'when-free' })], 'A', minutes(0, 60), false, undefined],
    ['out of service later', [out({ when: 'now' })], 'A', minutes(-60, 0), true, undefined],
    ['out of service for a part of it', [out({ when: 'now', until: at(30) })], 'A', minutes(29, 60), false, /out of/],
    ['that is back by then', [out({ when: 'now', until: at(30) })], 'A', minutes(30, 60), true, undefined],
    ['that returned', [out({ when: 'now' }), back], 'A', minutes(0, 60), true, undefined],
    ['in maintenance', [maintenance], 'A', minutes(119, 180), false, /under maintenance from/],
    ['before maintenance', [maintenance], 'A', minutes(0, 60), true, undefined],
    ['after maintenance', [maintenance], 'A', minutes(120, 180), true, undefined],
    ['in cancelled maintenance', [maintenance, cancelled], 'A', minutes(60, 120), true, undefined],
    ['of a retired unit', [retired], 'A', minutes(0, 60), false, /left the platform/],
  ];

  test.each(cases)('%s', (_, past, locker, period, forRent, reason) => {
    const unit = unitAfter(...past);
    expect(isForRent(unit, locker, period)).toBe(forRent);
    if (reason === undefined) expect(displacementReason(unit, locker, period)).toBeUndefined();
    else expect(displacementReason(unit, locker, period)).toMatch(reason);
  });
});

describe('the next change of service by time alone', () => {
  test.each([
    ['of a unit in service', [], 0, undefined],
    ['without an end', [out({})], 0, undefined],
    ['is the return of a locker', [out({ until: at(30) })], 0, 30],
    ['is not the return that has been', [out({ until: at(30) })], 30, undefined],
    ['is the beginning of maintenance', [maintenance], 0, 60],
    ['is the end of maintenance that has begun', [maintenance], 60, 120],
    ['is the first of several', [maintenance, out({ until: at(90) })], 60, 90],
  ] as const)('%s', (_, past, now, expected) => {
    expect(nextServiceChangeAtMs(unitAfter(...past), atMs(now))).toBe(
      expected === undefined ? undefined : atMs(expected),
    );
  });
});

describe('planned maintenance', () => {
  test('that is over is forgotten when the next one is planned', () => {
    const next: Past = {
      type: 'UnitMaintenancePlanned',
      atMs: atMs(120),
      data: { id: 'm-2', from: at(180), until: at(240), reason: 'cables' },
    };
    expect(unitAfter(maintenance, next).maintenance.map(({ id }) => id)).toEqual(['m-2']);
    expect(unitAfter(maintenance, { ...next, atMs: atMs(119) }).maintenance.map(({ id }) => id)).toEqual([
      'm-1',
      'm-2',
    ]);
  });
});
