import { describe, expect, test } from 'bun:test';
import type { Connectivity } from '../../../domain/connectivity/connectivity.ts';
import { markUnitOffline, markUnitOnline } from '../../../domain/connectivity/connectivity.ts';
import { given, type Past } from '../../support/given.ts';
import { at, NOW_MS } from '../../support/scene.ts';

const online: Past = { type: 'UnitWentOnline', atMs: NOW_MS, data: { evidence: 'ping' } };
const offline: Past = { type: 'UnitWentOffline', atMs: NOW_MS, data: { lastProofAt: at(-1), missedPings: 3 } };

const PASTS: Record<Connectivity['status'], readonly Past[]> = {
  'never-seen': [],
  online: [online],
  offline: [online, offline],
};

test.each([
  ['never-seen', { status: 'never-seen' }],
  ['online', { status: 'online', since: at(0) }],
  ['offline', { status: 'offline', since: at(0), lastProofAt: at(-1) }],
] as const)('the state %s follows from its events', (status, expected) => {
  expect(given(...PASTS[status]).state.connectivity).toEqual(expected);
});

describe('a proof that the unit is online', () => {
  test.each(['ping', 'heartbeat', 'command'] as const)('by %s takes a never-seen unit online', (evidence) => {
    given()
      .when(({ connectivity }) => markUnitOnline(connectivity, evidence, NOW_MS))
      .thenEvents([{ type: 'UnitWentOnline', data: { evidence } }]);
  });

  test('takes an offline unit online, with the duration of its absence', () => {
    given(...PASTS.offline)
      .when(({ connectivity }) => markUnitOnline(connectivity, 'ping', NOW_MS + 500))
      .thenEvents([{ type: 'UnitWentOnline', data: { evidence: 'ping', awayMs: 60_500 } }]);
  });

  test('never counts a negative absence when clocks differ', () => {
    given(...PASTS.offline)
      .when(({ connectivity }) => markUnitOnline(connectivity, 'ping', NOW_MS - 999_999))
      .thenEvents([{ type: 'UnitWentOnline', data: { evidence: 'ping', awayMs: 0 } }]);
  });

  test('decides nothing for a unit that is online', () => {
    given(online)
      .when(({ connectivity }) => markUnitOnline(connectivity, 'ping', NOW_MS))
      .thenNothing();
  });
});

describe('missed pings', () => {
  test('take an online unit offline', () => {
    given(online)
      .when(({ connectivity }) => markUnitOffline(connectivity, 3, at(-1)))
      .thenEvents([{ type: 'UnitWentOffline', data: { missedPings: 3, lastProofAt: at(-1) } }]);
  });

  test.each(['never-seen', 'offline'] as const)('decide nothing for a unit that is %s', (status) => {
    given(...PASTS[status])
      .when(({ connectivity }) => markUnitOffline(connectivity, 3, at(-1)))
      .thenNothing();
  });
});

test('transitions alternate, also after several proofs or misses in a row', () => {
  const evidence = [true, true, false, false, true, false, false, true, true, false];
  const past: Past[] = [];
  for (const proof of evidence) {
    const { connectivity } = given(...past).state;
    past.push(...(proof ? markUnitOnline(connectivity, 'ping', NOW_MS) : markUnitOffline(connectivity, 3, at(0))));
  }
  expect(past.map(({ type }) => type)).toEqual([
    'UnitWentOnline',
    'UnitWentOffline',
    'UnitWentOnline',
    'UnitWentOffline',
    'UnitWentOnline',
    'UnitWentOffline',
  ]);
});
