/** The lockers of a unit over REST: what each route takes and answers. */

import { type Static, Type } from '@sinclair/typebox';
import { OutOfServiceWhen } from '../../../domain/events/registry.ts';
import { Instant, Locker, LockerId, UnitName } from '../../../domain/vocabulary.ts';
import { answer, operation } from '../../http/operation.ts';
import { type Shown, strict } from '../../http/schemas.ts';
import { Reason } from './changes-schema.ts';
import { LockerDetails, Maintenance } from './schema.ts';

const TAG = 'Lockers';
const unitParams = Type.Object({ name: UnitName });
const lockerParams = Type.Object({ name: UnitName, id: LockerId });

const LockerView = Type.Composite([Type.Object({ unit: UnitName }), LockerDetails], { title: 'Locker' });
export type LockerView = Shown<typeof LockerView>;

const RemovedLocker = Type.Object({ id: LockerId }, { title: 'RemovedLocker' });

const OutOfServiceBody = Type.Object(
  {
    reason: Reason,
    when: OutOfServiceWhen,
    until: Type.Optional({
      ...Instant,
      description: 'When the locker is for rent again; without it, an operator decides.',
    }),
  },
  { ...strict, title: 'TakeOutOfService', examples: [{ reason: 'the hinge is broken', when: 'now' }] },
);
export type OutOfServiceBody = Static<typeof OutOfServiceBody>;

const PlanMaintenanceBody = Type.Object(
  { from: Instant, until: Instant, reason: Reason },
  {
    ...strict,
    title: 'PlanMaintenance',
    examples: [{ from: '2026-07-02T06:00:00.000Z', until: '2026-07-02T08:00:00.000Z', reason: 'the floor is painted' }],
  },
);
export type PlanMaintenanceBody = Static<typeof PlanMaintenanceBody>;

const MaintenanceView = Type.Composite([Type.Object({ unit: UnitName }), Maintenance], { title: 'PlannedMaintenance' });
export type MaintenanceView = Shown<typeof MaintenanceView>;

const ServiceOpened = Type.Object({ result: Type.Literal('opened'), locker: LockerId }, { title: 'ServiceOpened' });

const LOCKER_EXAMPLE = {
  unit: 'PL-1000',
  id: 'B',
  size: 'M',
  inService: true,
  outOfService: null,
  door: 'closed',
  rental: null,
} as const;
const OUT_EXAMPLE = {
  ...LOCKER_EXAMPLE,
  inService: false,
  outOfService: { reason: 'the hinge is broken', when: 'now', since: '2026-07-01T10:00:00.000Z' },
} as const;
const MAINTENANCE_EXAMPLE = {
  unit: 'PL-1000',
  id: '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55',
  from: '2026-07-02T06:00:00.000Z',
  until: '2026-07-02T08:00:00.000Z',
  reason: 'the floor is painted',
} as const;

const write = { tag: TAG, auth: 'ops', idempotent: true } as const;

export const ADD_LOCKER = operation({
  ...write,
  id: 'addLocker',
  summary: 'Add a locker to a unit',
  description: 'The unit must have the locker: a unit refuses to open one that it does not know.',
  params: unitParams,
  body: Type.Object(Locker.properties, { ...strict, title: 'AddLocker', examples: [{ id: 'D', size: 'XL' }] }),
  answers: { 201: answer('The locker.', LockerView, LOCKER_EXAMPLE) },
  problems: ['validation', 'not-found'],
});

export const REMOVE_LOCKER = operation({
  ...write,
  id: 'removeLocker',
  summary: 'Remove a locker from a unit',
  description:
    'While the locker is booked or rented, the answer is 409 with `inUse`. With `force=true`, its bookings move to other lockers or ' +
    'are given up; a rental that runs in it is in the way in any case.',
  params: lockerParams,
  query: Type.Object(
    { force: Type.Optional(Type.Boolean({ description: 'Whether the bookings of the locker move or are given up.' })) },
    strict,
  ),
  answers: { 200: answer('The locker is removed.', RemovedLocker, { id: 'B' }) },
  problems: ['validation', 'not-found', 'unit-in-use'],
});

export const TAKE_OUT_OF_SERVICE = operation({
  ...write,
  id: 'takeLockerOutOfService',
  summary: 'Take a locker out of service',
  description:
    'The locker is not sold any more. With `when: "now"`, bookings of it move to other lockers or are given up; a rental that runs ' +
    'in it goes on until the customer gives the locker back. With `when: "when-free"`, bookings stay.',
  params: lockerParams,
  body: OutOfServiceBody,
  answers: { 200: answer('The locker.', LockerView, OUT_EXAMPLE) },
  problems: ['validation', 'not-found'],
});

export const RETURN_TO_SERVICE = operation({
  ...write,
  id: 'returnLockerToService',
  summary: 'Return a locker to service',
  description: 'A locker that is in service stays as it is.',
  params: lockerParams,
  answers: { 200: answer('The locker.', LockerView, LOCKER_EXAMPLE) },
  problems: ['validation', 'not-found'],
});

export const PLAN_MAINTENANCE = operation({
  ...write,
  id: 'planMaintenance',
  summary: 'Plan maintenance of a whole unit',
  description:
    'No locker of the unit is sold for a period that overlaps the maintenance. Bookings that overlap it are given up; rentals that ' +
    'run go on until the customers give the lockers back.',
  params: unitParams,
  body: PlanMaintenanceBody,
  answers: { 201: answer('The planned maintenance.', MaintenanceView, MAINTENANCE_EXAMPLE) },
  problems: ['validation', 'not-found'],
});

export const CANCEL_MAINTENANCE = operation({
  ...write,
  id: 'cancelMaintenance',
  summary: 'Cancel a planned maintenance, or end one that runs',
  params: Type.Object({ name: UnitName, id: Type.String({ minLength: 1, maxLength: 100 }) }),
  answers: {
    200: answer(
      'The maintenance is cancelled.',
      Type.Object({ id: Type.String() }, { title: 'CancelledMaintenance' }),
      { id: MAINTENANCE_EXAMPLE.id },
    ),
  },
  problems: ['validation', 'not-found'],
});

export const OPEN_FOR_SERVICE = operation({
  ...write,
  id: 'openLockerForService',
  summary: 'Open a locker now, for an operator',
  description:
    'The server asks the unit within this request, and never later. The unit opens also a locker that is rented. The event log has ' +
    'who opened it and why, and the unit records the opening with the cause `service`.',
  params: lockerParams,
  body: Type.Object(
    { reason: Reason },
    { ...strict, title: 'OpenForService', examples: [{ reason: 'a customer forgot a bag' }] },
  ),
  answers: { 200: answer('The door is open.', ServiceOpened, { result: 'opened', locker: 'B' }) },
  problems: ['validation', 'not-found', 'closed', 'unit-rejected', 'unit-offline'],
});
