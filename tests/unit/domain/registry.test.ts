import { describe, expect, test } from 'bun:test';
import {
  MAX_ROTATIONS_PER_UNIT,
  registerUnit,
  requireUnit,
  revokeCredentials,
  revokedNatsUsers,
  rotateCredentials,
} from '../../../domain/registry/registry.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { formerUnitOf } from '../../../domain/unit/unit-use.ts';
import { given, type Past } from '../../support/given.ts';
import { configured, held, LOCKERS, registered, registration } from '../../support/scene.ts';

const register = registration(LOCKERS);
const COMMAND = 'register-again';
const retired: Past = { type: 'UnitRetired', data: { reason: 'sold' } };

describe('registering', () => {
  test('a new unit is recorded', () => {
    given()
      .when(({ registry }) => registerUnit(registry, register, COMMAND))
      .thenEvents([{ type: 'UnitRegistered', data: register }]);
  });

  test('a unit without lockers is recorded', () => {
    given()
      .when(({ registry }) => registerUnit(registry, registration([]), COMMAND))
      .thenEvents([{ type: 'UnitRegistered', data: registration([]) }]);
  });

  test('a name that there is already is refused', () => {
    given(registered)
      .when(({ registry }) => registerUnit(registry, register, COMMAND))
      .thenRefused('validation', /exists already/, ['/name']);
  });

  test('the same command again decides nothing', () => {
    given(registered)
      .when(({ registry }) =>
        registerUnit(registry, register, registry.status === 'registered' ? registry.registrationCommandId : ''),
      )
      .thenNothing();
  });

  test('the name of a retired unit begins anew, with the next key and the next version of the configuration', () => {
    const changed = configured({ minimumMinutes: 5 });
    given(registered, { type: 'UnitCredentialsRotated', data: { keyVersion: 2, natsUser: 'U2' } }, changed, retired)
      .when((state) => registerUnit(state.registry, register, COMMAND, formerUnitOf(state)))
      .thenEvents([
        {
          type: 'UnitRegistered',
          data: { ...register, keyVersion: 3, configuration: { ...register.configuration, version: 3 } },
        },
      ]);
  });

  test('the name of a retired unit is refused until its bookings have ended', () => {
    given(registered, held(), retired)
      .when((state) => registerUnit(state.registry, register, COMMAND, formerUnitOf(state)))
      .thenRefused('unit-in-use', /not settled yet/);
  });

  test('two lockers of one id are refused, and the second is named', () => {
    given()
      .when(({ registry }) => registerUnit(registry, registration([...LOCKERS, { id: 'B', size: 'L' }]), COMMAND))
      .thenRefused('validation', /same id/, ['/lockers/3/id']);
  });
});

describe('credentials', () => {
  const rotated = (keyVersion: number): Past => ({
    type: 'UnitCredentialsRotated',
    data: { keyVersion, natsUser: `U${keyVersion}` },
  });
  const revoked: Past = { type: 'UnitCredentialsRevoked', data: {} };
  const rotate = ({ registry }: UnitState) => rotateCredentials(registry, 'UNEW', COMMAND);
  const revoke = (reason?: string) => (state: UnitState) => revokeCredentials(state.registry, reason);

  test.each([
    ['those of the registration', [registered], 2],
    ['rotated ones', [registered, rotated(2)], 3],
    ['revoked ones', [registered, rotated(2), revoked], 3],
  ] as const)('%s are rotated to the next version', (_, past, keyVersion) => {
    given(...past)
      .when(rotate)
      .thenEvents([{ type: 'UnitCredentialsRotated', data: { keyVersion, natsUser: 'UNEW' } }]);
  });

  test('the same command again rotates nothing', () => {
    given(registered, { ...rotated(2), commandId: COMMAND })
      .when(rotate)
      .thenNothing();
  });

  test('are rotated up to the limit and then refused', () => {
    const often = Array.from({ length: MAX_ROTATIONS_PER_UNIT }, (_, index) => rotated(index + 2));
    given(registered, ...often.slice(1))
      .when(rotate)
      .thenEvents([expect.objectContaining({ type: 'UnitCredentialsRotated' })]);
    given(registered, ...often)
      .when(rotate)
      .thenRefused('validation', /1000 times/);
  });

  test('are revoked, with a reason and without', () => {
    given(registered)
      .when(revoke('stolen'))
      .thenEvents([{ type: 'UnitCredentialsRevoked', data: { reason: 'stolen' } }]);
    given(registered, rotated(2))
      .when(revoke())
      .thenEvents([{ type: 'UnitCredentialsRevoked', data: {} }]);
  });

  test('are revoked once, and once more after a rotation', () => {
    given(registered, revoked).when(revoke('again')).thenNothing();
    given(registered, revoked, rotated(2))
      .when(revoke())
      .thenEvents([{ type: 'UnitCredentialsRevoked', data: {} }]);
  });

  test.each([
    ['does not exist', [], /no such unit/],
    ['has left', [registered, retired], /left the platform/],
  ] as const)('of a unit that %s are refused', (_, past, message) => {
    given(...past)
      .when(rotate)
      .thenRefused('not-found', message);
    given(...past)
      .when(revoke())
      .thenRefused('not-found', message);
  });

  test.each([
    ['before anything', [], []],
    ['after the registration', [registered], []],
    ['after a rotation', [registered, rotated(2)], ['UTEST']],
    ['after two', [registered, rotated(2), rotated(3)], ['UTEST', 'U2']],
    ['when they were revoked', [registered, rotated(2), revoked], ['UTEST', 'U2']],
    ['when they were rotated after that', [registered, revoked, rotated(2)], ['UTEST']],
    ['when the unit has left', [registered, rotated(2), retired], ['UTEST', 'U2']],
  ] as const)('the users that ended, %s', (_, past, ended) => {
    expect([...revokedNatsUsers(given(...past).state.registry)]).toEqual([...ended]);
  });
});

describe('the registered state of a unit', () => {
  const unitAfter = (...past: readonly Past[]) => requireUnit(given(registered, ...past).state.registry);

  test('begins with every locker in service', () => {
    const { configuration: _, ...registration } = register;
    expect(unitAfter()).toEqual({
      ...registration,
      status: 'registered',
      credentialsRevoked: false,
      formerNatsUsers: [],
      registrationCommandId: expect.any(String),
      credentialsCommandId: expect.any(String),
      lockers: LOCKERS,
      maintenance: [],
      serviceOpenings: {},
      revision: 1,
      commandIds: [expect.any(String)],
    });
  });

  test('has the changes of operators, and keeps the other values', () => {
    expect(unitAfter({ type: 'UnitUpdated', data: { displayName: 'New', tags: ['a'] } })).toMatchObject({
      displayName: 'New',
      tags: ['a'],
      address: register.address,
    });
  });

  test('has lockers that were added, and those that are out of service', () => {
    const grown: Past = { type: 'LockerAdded', data: { id: 'D', size: 'XL' } };
    const out: Past = { type: 'LockerTakenOutOfService', data: { id: 'B', reason: 'jammed' } };
    const back: Past = { type: 'LockerReturnedToService', data: { id: 'B' } };
    const inService = (...past: readonly Past[]) =>
      unitAfter(...past)
        .lockers.filter(({ outOfService }) => outOfService === undefined)
        .map(({ id }) => id);
    expect(inService(grown)).toEqual(['A', 'B', 'C', 'D']);
    expect(inService(out)).toEqual(['A', 'C']);
    expect(inService(out, back)).toEqual(['A', 'B', 'C']);
  });

  test('has a credentials version, none after a revocation, and a new one after a rotation', () => {
    const revoked: Past = { type: 'UnitCredentialsRevoked', data: {} };
    const rotated: Past = { type: 'UnitCredentialsRotated', data: { keyVersion: 2, natsUser: 'U2' } };
    expect(unitAfter(revoked)).toMatchObject({ credentialsRevoked: true, keyVersion: 1 });
    expect(unitAfter(revoked, rotated)).toMatchObject({ credentialsRevoked: false, keyVersion: 2, natsUser: 'U2' });
  });
});

describe('a request for a unit', () => {
  test('is refused as not found for an unregistered unit', () => {
    expect(() => requireUnit(given().state.registry)).toThrow('no such unit');
  });

  test('is refused for a decommissioned unit', () => {
    expect(() => requireUnit(given(registered, retired).state.registry)).toThrow('left the platform');
  });

  test('finds the unit unregistered after other events than UnitRegistered', () => {
    expect(given({ type: 'UnitUpdated', data: { displayName: 'x' } }, configured({})).state.registry).toEqual({
      status: 'unregistered',
    });
  });
});

test('an event of another aggregate on the registry subject leaves the registered unit as it is', () => {
  const foreign: Past = { type: 'UnitWentOnline', aggregate: 'registry', data: { evidence: 'ping' } };
  const { registry } = given(registered, foreign).state;
  expect(registry).toMatchObject({ status: 'registered', name: 'PL-1000', natsUser: 'UTEST' });
});
