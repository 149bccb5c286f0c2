/** Changes of a whole unit over REST: what each route takes and answers. */

import { type Static, Type } from '@sinclair/typebox';
import { UnitProperties } from '../../../domain/events/registry.ts';
import { Text, UnitName } from '../../../domain/vocabulary.ts';
import { ifMatchHeader } from '../../http/etags.ts';
import { answer, operation } from '../../http/operation.ts';
import { type Shown, strict } from '../../http/schemas.ts';
import { UNIT_EXAMPLE, UnitDetails } from './schema.ts';

const TAG = 'Units';
const params = Type.Object({ name: UnitName });

/** Why an operator does something. */
export const Reason = { ...Text, minLength: 1, description: 'Why the operator does it.' };

const ChangeUnitBody = Type.Partial(Type.Object(UnitProperties), {
  ...strict,
  title: 'ChangeUnit',
  minProperties: 1,
  examples: [{ displayName: 'Gdańsk, north gate', tags: ['station', 'roofed'] }],
});
export type ChangeUnitBody = Static<typeof ChangeUnitBody>;

const ChangedUnit = Type.Composite(
  [Type.Object({ name: UnitName, displayName: Type.String() }), Type.Omit(UnitDetails, ['responseTimes'])],
  { title: 'ChangedUnit' },
);
export type ChangedUnit = Shown<typeof ChangedUnit>;

const { displayName, status, credentialsRevoked, address, probe, delivery, commandChannel } = UNIT_EXAMPLE;
const { location, timeZone, tags, connectivity, configuration, log, gaps, lost, lastEventAt } = UNIT_EXAMPLE;
const { lockerDetails, maintenance, revision } = UNIT_EXAMPLE;
const CHANGED_EXAMPLE = {
  ...{ name: 'PL-1000', displayName, status, credentialsRevoked, address, probe, delivery, commandChannel, location },
  ...{
    timeZone,
    tags,
    connectivity,
    configuration,
    log,
    gaps,
    lost,
    lastEventAt,
    lockerDetails,
    maintenance,
    revision,
  },
};

export const UPDATE = operation({
  id: 'updateUnit',
  tag: TAG,
  auth: 'ops',
  idempotent: true,
  summary: 'Change properties of a unit',
  description:
    'Only the fields of the body change. A new address or command channel counts from the next ping and command. A new time zone ' +
    'moves the opening hours of the unit.',
  params,
  headers: ifMatchHeader(
    'The `ETag` of the unit that the client read. When the unit has been changed since, the answer is 412 and nothing changes.',
  ),
  body: ChangeUnitBody,
  answers: {
    200: {
      ...answer('The unit after the change.', ChangedUnit, CHANGED_EXAMPLE),
      headers: { etag: 'The revision of the unit in quotes.' },
    },
  },
  problems: ['validation', 'not-found', 'precondition-failed'],
});

export const RETIRE = operation({
  id: 'retireUnit',
  tag: TAG,
  auth: 'ops',
  idempotent: true,
  summary: 'Retire a unit',
  description:
    'The unit leaves the platform: its credentials end, it is not pinged and not sold any more. While it has open bookings, running ' +
    'rentals or events that the platform has not recorded, the answer is 409 with `inUse`. The unit itself is asked how long its log ' +
    'is; when it does not answer, its last ping counts. With `force=true`, the bookings are given ' +
    'up: those that have not begun become `rejected`, those in use `completed`. The history of the unit stays. Its name may be ' +
    'registered anew; the new unit has new credentials and begins without a history of its own. The history of the former unit ' +
    'stays in `GET /v1/events` and in `GET /v1/units/{name}/state` for the times before.',
  params,
  query: Type.Object(
    {
      force: Type.Optional(Type.Boolean({ description: 'Whether open bookings and unrecorded events are given up.' })),
      reason: Type.Optional(Reason),
    },
    strict,
  ),
  answers: { 200: answer('The retired unit.', ChangedUnit, { ...CHANGED_EXAMPLE, status: 'retired' }) },
  problems: ['validation', 'not-found', 'unit-in-use'],
});
