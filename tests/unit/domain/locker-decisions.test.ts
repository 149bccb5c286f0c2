import { describe, expect, test } from 'bun:test';
import {
  addLocker,
  cancelMaintenance,
  MAX_PLANNED_MAINTENANCE,
  planMaintenance,
  recordServiceOpenAnswer,
  removeLocker,
  requestServiceOpen,
  returnToService,
  SERVICE_OPEN_TTL_MS,
  takeOutOfService,
} from '../../../domain/registry/locker-decisions.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { toInstant } from '../../../domain/vocabulary.ts';
import { given, type Past } from '../../support/given.ts';
import { at, LOCKERS, NOW_MS, registered, registeredWith } from '../../support/scene.ts';

const COMMAND = 'operate';
const retired: Past = { type: 'UnitRetired', data: {} };
const revoked: Past = { type: 'UnitCredentialsRevoked', data: {} };
const out: Past = { type: 'LockerTakenOutOfService', data: { id: 'A', reason: 'bent', when: 'now' } };

const add =
  (id: string) =>
  ({ registry }: UnitState) =>
    addLocker(registry, { id, size: 'L' }, COMMAND);
const remove =
  (id: string) =>
  ({ registry }: UnitState) =>
    removeLocker(registry, id, COMMAND);
const close =
  (
    lockerId: string,
    changes: { readonly reason?: string; readonly when?: 'now' | 'when-free'; readonly until?: string },
  ) =>
  ({ registry }: UnitState) =>
    takeOutOfService(registry, { commandId: COMMAND, lockerId, nowMs: NOW_MS, ...changes });
const giveBack =
  (id: string) =>
  ({ registry }: UnitState) =>
    returnToService(registry, id, COMMAND);
const plan =
  (from: number, until: number) =>
  ({ registry }: UnitState) =>
    planMaintenance(registry, { from: at(from), until: at(until), reason: 'paint' }, COMMAND, NOW_MS);
const open =
  (lockerId: string) =>
  ({ registry }: UnitState) =>
    requestServiceOpen(registry, { commandId: COMMAND, lockerId, reason: 'bag', nowMs: NOW_MS });

describe('adding a locker', () => {
  test('records it', () => {
    given(registered)
      .when(add('D'))
      .thenEvents([{ type: 'LockerAdded', locker: 'D', data: { id: 'D', size: 'L' } }]);
  });

  test('is refused for an id that is taken, and for a unit that is full', () => {
    given(registered)
      .when(add('A'))
      .thenRefused('validation', /has a locker A already/, ['/id']);
    const many = Array.from({ length: 1_000 }, (_, index) => ({ id: String(index), size: 'S' as const }));
    given(registeredWith(...many))
      .when(add('X'))
      .thenRefused('validation', /at most 1000 lockers/);
  });

  test('again by the same command records nothing', () => {
    given(registered, { type: 'LockerAdded', data: { id: 'D', size: 'L' }, commandId: COMMAND })
      .when(add('D'))
      .thenNothing();
  });

  test('with the id of a removed one records a new locker', () => {
    const state = given(
      registered,
      out,
      { type: 'LockerRemoved', data: { id: 'A' } },
      { type: 'LockerAdded', data: { id: 'A', size: 'XL' } },
    ).state;
    expect(state.registry).toMatchObject({ lockers: [LOCKERS[1], LOCKERS[2], { id: 'A', size: 'XL' }] });
  });
});

describe('removing a locker', () => {
  test('records it, once', () => {
    given(registered)
      .when(remove('A'))
      .thenEvents([{ type: 'LockerRemoved', locker: 'A', data: { id: 'A' } }]);
    given(registered, { type: 'LockerRemoved', data: { id: 'A' } })
      .when(remove('A'))
      .thenRefused('not-found', /no locker A/);
    given(registered, { type: 'LockerRemoved', data: { id: 'A' }, commandId: COMMAND })
      .when(remove('A'))
      .thenNothing();
  });
});

describe('taking a locker out of service', () => {
  test.each([
    ['now', { reason: 'bent', when: 'now' as const }],
    ['when it is free', { reason: 'bent', when: 'when-free' as const }],
    ['until a time', { reason: 'bent', when: 'now' as const, until: at(60) }],
  ])('%s records it', (_, changes) => {
    given(registered)
      .when(close('B', changes))
      .thenEvents([{ type: 'LockerTakenOutOfService', locker: 'B', data: { id: 'B', ...changes } }]);
  });

  test('as it is already records nothing, and another way records the change', () => {
    given(registered, out)
      .when(close('A', { reason: 'bent', when: 'now' }))
      .thenNothing();
    given(registered, out)
      .when(close('A', { reason: 'bent', when: 'when-free' }))
      .thenEvents([
        { type: 'LockerTakenOutOfService', locker: 'A', data: { id: 'A', reason: 'bent', when: 'when-free' } },
      ]);
  });

  test('until a time that has passed is refused', () => {
    given(registered)
      .when(close('A', { until: at(0) }))
      .thenRefused('validation', /has passed/, ['/until']);
  });

  test('ends by a return, which a locker in service does not need', () => {
    given(registered, out)
      .when(giveBack('A'))
      .thenEvents([{ type: 'LockerReturnedToService', locker: 'A', data: { id: 'A' } }]);
    given(registered).when(giveBack('A')).thenNothing();
  });
});

describe('planning maintenance', () => {
  test('records it with the id of the command', () => {
    given(registered)
      .when(plan(10, 20))
      .thenEvents([
        { type: 'UnitMaintenancePlanned', data: { id: COMMAND, from: at(10), until: at(20), reason: 'paint' } },
      ]);
  });

  test('may have begun, and may not be over', () => {
    given(registered)
      .when(plan(-10, 1))
      .thenEvents([expect.objectContaining({ type: 'UnitMaintenancePlanned' })]);
    given(registered)
      .when(plan(-10, 0))
      .thenRefused('validation', /has passed/, ['/until']);
    given(registered)
      .when(plan(20, 20))
      .thenRefused('validation', /ends before it begins/, ['/until']);
  });

  test('is bounded, and maintenance that is over does not count', () => {
    const planned = (index: number, until: number): Past => ({
      type: 'UnitMaintenancePlanned',
      data: { id: `m-${index}`, from: at(until - 1), until: at(until), reason: 'paint' },
    });
    const all = Array.from({ length: MAX_PLANNED_MAINTENANCE }, (_, index) => planned(index, 30));
    given(registered, ...all)
      .when(plan(10, 20))
      .thenRefused('validation', /at most 50/);
    given(registered, ...all.slice(1), planned(0, -1))
      .when(plan(10, 20))
      .thenEvents([expect.objectContaining({ type: 'UnitMaintenancePlanned' })]);
  });

  test('can be cancelled once', () => {
    const planned: Past = {
      type: 'UnitMaintenancePlanned',
      data: { id: 'm', from: at(1), until: at(2), reason: 'paint' },
    };
    const cancel = ({ registry }: UnitState) => cancelMaintenance(registry, 'm', COMMAND);
    given(registered, planned)
      .when(cancel)
      .thenEvents([{ type: 'UnitMaintenanceCancelled', data: { id: 'm' } }]);
    given(registered)
      .when(cancel)
      .thenRefused('not-found', /no planned maintenance m/);
    given(registered, planned, { type: 'UnitMaintenanceCancelled', data: { id: 'm' }, commandId: COMMAND })
      .when(cancel)
      .thenNothing();
  });
});

describe('opening for service', () => {
  const requested: Past = {
    type: 'ServiceOpenRequested',
    data: { locker: 'A', commandId: COMMAND, reason: 'bag', expiresAt: toInstant(NOW_MS + SERVICE_OPEN_TTL_MS) },
  };
  const answered = (result: 'opened' | 'failed' | 'unreachable'): Past => ({
    type: 'ServiceOpenAnswered',
    data: { locker: 'A', commandId: COMMAND, result },
  });
  const answer =
    (result: 'opened' | 'failed' | 'unreachable') =>
    ({ registry }: UnitState) =>
      recordServiceOpenAnswer(registry, { locker: 'A', commandId: COMMAND, result });

  test('records the request with its reason, once for each command', () => {
    given(registered)
      .when(open('A'))
      .thenEvents([{ type: 'ServiceOpenRequested', locker: 'A', data: requested.data }]);
    given(registered, requested).when(open('A')).thenNothing();
  });

  test('is refused for an unknown locker and for a unit without credentials', () => {
    given(registered)
      .when(open('Z'))
      .thenRefused('not-found', /no locker Z/);
    given(registered, requested, revoked)
      .when(open('A'))
      .thenRefused('closed', /credentials are revoked/);
  });

  test.each([
    ['the first answer', [], 'opened', true],
    ['an answer after none', [answered('unreachable')], 'opened', true],
    ['no answer again', [answered('unreachable')], 'unreachable', false],
    ['another answer after one', [answered('failed')], 'opened', false],
    ['the same answer again', [answered('opened')], 'opened', false],
  ] as const)('%s is recorded or not', (_, before, result, isRecorded) => {
    const outcome = given(registered, requested, ...before).when(answer(result));
    if (!isRecorded) outcome.thenNothing();
    else
      outcome.thenEvents([
        { type: 'ServiceOpenAnswered', locker: 'A', data: { locker: 'A', commandId: COMMAND, result } },
      ]);
  });

  test('an answer without a request is not recorded', () => {
    given(registered).when(answer('opened')).thenNothing();
    given().when(answer('opened')).thenNothing();
  });
});

test.each([
  ['adding', add('D')],
  ['removing', remove('A')],
  ['closing', close('A', {})],
  ['returning', giveBack('A')],
  ['planning maintenance', plan(1, 2)],
  ['opening', open('A')],
])('%s at a unit that is retired or unknown is refused', (_, decide) => {
  given(registered, retired)
    .when(decide)
    .thenRefused('not-found', /left the platform/);
  given()
    .when(decide)
    .thenRefused('not-found', /no such unit/);
});
