import { describe, expect, test } from 'bun:test';
import { forceEndReservation } from '../../../domain/booking/force-end.ts';
import { nextSettlementAtMs, settleBookings } from '../../../domain/booking/settlement.ts';
import { recordedSeq } from '../../../domain/device/epochs.ts';
import { revokedNatsUsers } from '../../../domain/registry/registry.ts';
import { retireUnit, updateUnit } from '../../../domain/registry/unit-decisions.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { formerUnitOf, unitUse } from '../../../domain/unit/unit-use.ts';
import { EPOCH, given, type Past, withDecision } from '../../support/given.ts';
import {
  at,
  completed,
  confirmed,
  givenBack,
  held,
  LOCKERS,
  NOW_MS,
  R1,
  R2,
  registered,
  registration,
  started,
  taken,
} from '../../support/scene.ts';

const COMMAND = 'operate';
const retired: Past = { type: 'UnitRetired', data: { reason: 'sold' } };

describe('updating a unit', () => {
  const update =
    (changes: Parameters<typeof updateUnit>[1], expectedRevision?: number) =>
    ({ registry }: UnitState) =>
      updateUnit(registry, changes, COMMAND, expectedRevision);
  const renamed: Past = { type: 'UnitUpdated', data: { displayName: 'New' } };

  test('records what changes and nothing else', () => {
    const { displayName, location } = registration(LOCKERS);
    given(registered)
      .when(update({ displayName, location: { lon: location.lon, lat: location.lat }, tags: ['a'] }))
      .thenEvents([{ type: 'UnitUpdated', data: { tags: ['a'] } }]);
    given(registered)
      .when(update({ displayName, tags: [] }))
      .thenNothing();
  });

  test('compares the expected revision', () => {
    given(registered, renamed)
      .when(update({ tags: ['a'] }, 1))
      .thenRefused('precondition-failed', /revision 2 by now/);
    given(registered, renamed)
      .when(update({ tags: ['a'] }, 2))
      .thenEvents([{ type: 'UnitUpdated', data: { tags: ['a'] } }]);
  });

  test('again by the same command records nothing, although the revision has grown', () => {
    given(registered, { ...renamed, commandId: COMMAND })
      .when(update({ displayName: 'New' }, 1))
      .thenNothing();
  });

  test('is refused for a unit that is retired or unknown', () => {
    given(registered, retired)
      .when(update({ tags: [] }))
      .thenRefused('not-found', /left the platform/);
    given()
      .when(update({ tags: [] }))
      .thenRefused('not-found', /no such unit/);
  });
});

describe('retiring a unit', () => {
  const retire =
    (isForced: boolean, reason?: string) =>
    ({ registry }: UnitState) =>
      retireUnit(registry, { reason, isForced });

  test('records it once, with its reason and whether it was forced', () => {
    given(registered)
      .when(retire(false, 'sold'))
      .thenEvents([{ type: 'UnitRetired', data: { reason: 'sold' } }]);
    given(registered)
      .when(retire(true))
      .thenEvents([{ type: 'UnitRetired', data: { forced: true } }]);
    given(registered, retired).when(retire(true)).thenNothing();
    given()
      .when(retire(false))
      .thenRefused('not-found', /no such unit/);
  });

  test('rejects what has not begun, and completes what is in use', () => {
    given(registered, held(), held({ reservationId: R2, locker: 'B' }), confirmed(R2, 'B'), started(R2, 'B'), retired)
      .when((state) => settleBookings(state, NOW_MS))
      .thenEvents([
        {
          type: 'ReservationCompleted',
          locker: 'B',
          data: { reservationId: R2, endedAt: at(0), endedBy: 'operator', reason: 'The unit has left the platform.' },
        },
        {
          type: 'ReservationConflictDetected',
          locker: 'A',
          data: { reservationId: R1, locker: 'A', resolution: 'rejected' },
        },
        {
          type: 'ReservationRejected',
          locker: 'A',
          data: { reservationId: R1, reason: 'The unit has left the platform.' },
        },
      ]);
  });
});

describe('when a unit is due for settlement', () => {
  const closed: Past = { type: 'LockerTakenOutOfService', data: { id: 'A', when: 'now' } };
  const maintenance: Past = {
    type: 'UnitMaintenancePlanned',
    data: { id: 'm', from: at(0), until: at(60), reason: 'paint' },
  };
  const removed: Past = { type: 'LockerRemoved', data: { id: 'A' } };

  // Another process made the booking before it knew of the change, so that the settlement after the change did not see it.
  test.each([
    ['a booking of a closed locker', [closed, held()], true],
    [
      'a booking of a locker that is closed when it is free',
      [{ ...closed, data: { id: 'A', when: 'when-free' } }, held()],
      false,
    ],
    ['a booking during maintenance', [maintenance, held()], true],
    ['a booking of a removed locker', [removed, held()], true],
    ['a booking at a retired unit', [retired, held()], true],
    ['a use at a retired unit', [retired, held(), confirmed(), started()], true],
    ['a booking of a locker in service', [held()], false],
  ] as readonly (readonly [string, readonly Past[], boolean])[])('%s', (_, past, isDue) => {
    const { state } = given(registered, ...past);
    expect((nextSettlementAtMs(state) ?? Number.POSITIVE_INFINITY) <= NOW_MS).toBe(isDue);
    const drafts = settleBookings(state, NOW_MS);
    expect(drafts.length > 0).toBe(isDue);
    const settled = withDecision(state, drafts, { commandId: 'settle', atMs: NOW_MS });
    expect((nextSettlementAtMs(settled, NOW_MS) ?? Number.POSITIVE_INFINITY) > NOW_MS).toBe(true);
    expect(settleBookings(settled, NOW_MS)).toEqual([]);
  });
});

describe('the use of a unit', () => {
  test('has open bookings and running rentals, of the unit and of one locker', () => {
    const { state } = given(registered, held(), taken('B', { fromMin: -5, untilMin: 60 }));
    expect(unitUse(state)).toMatchObject({ bookings: [{ id: R1 }], rentals: [{ locker: 'B' }] });
    expect(unitUse(state, 'A')).toMatchObject({ bookings: [{ id: R1 }], rentals: [] });
    expect(unitUse(state, 'B')).toMatchObject({ bookings: [], rentals: [{ locker: 'B' }] });
    expect(unitUse(given(registered).state)).toEqual({ bookings: [], rentals: [] });
  });
});

describe('ending a reservation by force', () => {
  const end = (state: UnitState) =>
    forceEndReservation(state, { commandId: COMMAND, reservationId: R1, reason: 'stuck', nowMs: NOW_MS });
  const byOperator = { reservationId: R1, endedAt: at(0), endedBy: 'operator' as const, reason: 'stuck' };

  test('completes one that is active', () => {
    given(registered, held(), confirmed(), started())
      .when(end)
      .thenEvents([{ type: 'ReservationCompleted', locker: 'A', data: byOperator }]);
  });

  test.each([
    ['held', [held()]],
    ['confirmed', [held(), confirmed()]],
  ] as const)('rejects one that is %s', (_, past) => {
    given(registered, ...past)
      .when(end)
      .thenEvents([{ type: 'ReservationRejected', locker: 'A', data: { reservationId: R1, reason: 'stuck' } }]);
  });

  test('starts and completes one that the unit uses and the platform has not started yet', () => {
    const used = taken('B', { fromMin: -5, untilMin: 60, reservationId: R1 });
    given(registered, held(), confirmed(), used)
      .when(end)
      .thenEvents([
        { type: 'ReservationStarted', locker: 'B', data: { reservationId: R1, locker: 'B', startedAt: at(-5) } },
        { type: 'ReservationCompleted', locker: 'B', data: byOperator },
      ]);
  });

  test('is refused for one that is over or unknown; the same command again decides nothing', () => {
    given(registered, held(), confirmed(), started(), completed())
      .when(end)
      .thenRefused('reservation-state', /is completed/);
    given(registered)
      .when(end)
      .thenRefused('not-found', /no such reservation/);
    given(registered, held(), confirmed(), started(), { ...completed(), commandId: COMMAND })
      .when(end)
      .thenNothing();
  });

  test('is not undone by what the unit reports later', () => {
    const ended: Past = { type: 'ReservationCompleted', data: byOperator };
    const past = [
      registered,
      held(),
      confirmed(),
      started(),
      ended,
      taken('A', { fromMin: 0, untilMin: 60, reservationId: R1 }),
      givenBack('A', 5, R1),
    ];
    for (const length of [5, 6, 7])
      given(...past.slice(0, length))
        .when((state) => settleBookings(state, NOW_MS))
        .thenNothing();
  });
});

describe('a name that is registered anew', () => {
  const online: Past = { type: 'UnitWentOnline', data: { evidence: 'ping' } };
  const closed: Past = { type: 'LockerTakenOutOfService', data: { id: 'A', when: 'now' } };
  const again: Past = {
    type: 'UnitRegistered',
    data: { ...registration([{ id: 'A', size: 'L' }]), natsUser: 'UNEW', keyVersion: 2 },
  };
  const { state } = given(registered, online, closed, taken('A', { fromMin: -5, untilMin: 60 }), retired, again);

  test('has its own lockers, none out of service, and has reported nothing', () => {
    expect(state.registry).toMatchObject({ status: 'registered', keyVersion: 2, revision: 2 });
    expect(state.registry).toHaveProperty('lockers', [{ id: 'A', size: 'L' }]);
    expect(state.device.lockers).toEqual({});
    expect(state.connectivity).toEqual({ status: 'never-seen' });
    expect(formerUnitOf(state).openBookings).toBe(0);
  });

  test('recognises a replay of the former log', () => {
    expect(recordedSeq(state.device, EPOCH)).toBe(1);
  });

  test('keeps the credentials of the former unit ended', () => {
    expect(revokedNatsUsers(state.registry)).toEqual(['UTEST']);
  });
});
