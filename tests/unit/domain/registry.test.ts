import { describe, expect, test } from 'bun:test';
import { registerUnit, requireUnit } from '../../../domain/registry.ts';
import { given, type Past } from '../../support/given.ts';
import { configured, LOCKERS, registered, registration } from './scene.ts';

const register = registration(LOCKERS);
const COMMAND = 'register-again';
const retired: Past = { type: 'UnitRetired', data: { reason: 'sold' } };

describe('registering', () => {
  test('a new unit', () => {
    given()
      .when(({ registry }) => registerUnit(registry, register, COMMAND))
      .thenEvents([{ type: 'UnitRegistered', data: register }]);
  });

  test('a unit without lockers', () => {
    given()
      .when(({ registry }) => registerUnit(registry, registration([]), COMMAND))
      .thenEvents([{ type: 'UnitRegistered', data: registration([]) }]);
  });

  test.each([
    ['there is already', [registered]],
    ['has left', [registered, retired]],
  ] as const)('a name that %s is refused', (_, past) => {
    given(...past)
      .when(({ registry }) => registerUnit(registry, register, COMMAND))
      .thenRefused('validation', /exists already/, ['/name']);
  });

  test('the same command again decides nothing', () => {
    given(registered)
      .when(({ registry }) =>
        registerUnit(registry, register, registry.status === 'registered' ? registry.registeredBy : ''),
      )
      .thenNothing();
  });

  test('two lockers of one id are refused, and the second is named', () => {
    given()
      .when(({ registry }) => registerUnit(registry, registration([...LOCKERS, { id: 'B', size: 'L' }]), COMMAND))
      .thenRefused('validation', /same id/, ['/lockers/3/id']);
  });
});

describe('what is registered', () => {
  const unitAfter = (...past: readonly Past[]) => requireUnit(given(registered, ...past).state.registry);

  test('begins with everything in service', () => {
    expect(unitAfter()).toEqual({
      ...register,
      status: 'registered',
      credentialsRevoked: false,
      registeredBy: expect.any(String),
      lockers: LOCKERS.map((locker) => ({ ...locker, inService: true })),
    });
  });

  test('changes as operators say, and keeps the rest', () => {
    expect(unitAfter({ type: 'UnitUpdated', data: { displayName: 'New', tags: ['a'] } })).toMatchObject({
      displayName: 'New',
      tags: ['a'],
      address: register.address,
    });
  });

  test('grows by lockers and loses them for a while', () => {
    const grown: Past = { type: 'LockerAdded', data: { id: 'D', size: 'XL' } };
    const out: Past = { type: 'LockerTakenOutOfService', data: { id: 'B', reason: 'jammed' } };
    const back: Past = { type: 'LockerReturnedToService', data: { id: 'B' } };
    const inService = (...past: readonly Past[]) =>
      unitAfter(...past)
        .lockers.filter((locker) => locker.inService)
        .map(({ id }) => id);
    expect(inService(grown)).toEqual(['A', 'B', 'C', 'D']);
    expect(inService(out)).toEqual(['A', 'C']);
    expect(inService(out, back)).toEqual(['A', 'B', 'C']);
  });

  test('has credentials of a version, until they are revoked, and new ones after that', () => {
    const revoked: Past = { type: 'UnitCredentialsRevoked', data: {} };
    const rotated: Past = { type: 'UnitCredentialsRotated', data: { keyVersion: 2, natsUser: 'U2' } };
    expect(unitAfter(revoked)).toMatchObject({ credentialsRevoked: true, keyVersion: 1 });
    expect(unitAfter(revoked, rotated)).toMatchObject({ credentialsRevoked: false, keyVersion: 2, natsUser: 'U2' });
  });

  test('wants the configuration that was set last', () => {
    const changed = configured({ minimumMinutes: 30 });
    const { configuration } = unitAfter(changed);
    expect(configuration).toMatchObject({ version: 2, values: { minimumMinutes: 30 } });
    expect(configuration).not.toHaveProperty('mode');
  });
});

describe('a unit is asked for', () => {
  test('and is not there', () => {
    expect(() => requireUnit(given().state.registry)).toThrow('no such unit');
  });

  test('and has left', () => {
    expect(() => requireUnit(given(registered, retired).state.registry)).toThrow('left the platform');
  });

  test('before anything was registered, and nothing else counts', () => {
    expect(given({ type: 'UnitUpdated', data: { displayName: 'x' } }, configured({})).state.registry).toEqual({
      status: 'unregistered',
    });
  });
});
