/** What a unit at another time looks like over REST. */

import { type Static, Type } from '@sinclair/typebox';
import { COURSES } from '../../../domain/unit/forecast.ts';
import { Instant, UnitName } from '../../../domain/vocabulary.ts';
import { MinPosition } from '../../http/schemas.ts';
import { ConfigurationView, VIEW_EXAMPLE } from '../configuration/schema.ts';
import { RESERVATION_EXAMPLE, Reservation } from '../reservations/schema.ts';
import { UNIT_EXAMPLE, UnitDetails } from '../units/schema.ts';

const OrNull = (schema: Parameters<typeof Type.Union>[0][number]) => Type.Union([schema, Type.Null()]);

const View = Type.Union([Type.Literal('actual'), Type.Literal('believed')], {
  description: '`actual`: what was; `believed`: what the platform took it for then, as always at a position',
});
export type View = Static<typeof View>;

export const StateQuery = Type.Object(
  {
    at: Type.Optional({ ...Instant, description: 'RFC 3339, UTC; later than now for what is expected' }),
    atPosition: Type.Optional(
      Type.String({
        ...MinPosition.minPosition,
        description: 'instead of `at`: a position of the event log, `1234` or `1234.0`',
      }),
    ),
    view: Type.Optional(View),
    ...MinPosition,
  },
  { additionalProperties: false },
);
export type StateQuery = Static<typeof StateQuery>;

const course = Type.Optional(
  Type.Union(
    COURSES.map((one) => Type.Literal(one)),
    { description: 'of a forecast: where it is expected to stand in its time' },
  ),
);

const Configuration = Type.Composite([
  Type.Omit(ConfigurationView, ['unit', 'nextAttemptAt']),
  Type.Object({
    nextAttemptAt: OrNull({ ...Instant, description: 'after a push that failed: when the next one was due' }),
    expected: Type.Optional(
      OrNull(
        Type.Object(
          { status: Type.Literal('applied'), at: Instant },
          { description: 'of a forecast: when it is expected to be pushed and applied; null when not by then' },
        ),
      ),
    ),
  }),
]);

const Rental = Type.Object({
  rentalId: Type.String(),
  reservationId: Type.Optional(Type.String()),
  startedAt: Instant,
  until: Instant,
  course,
  endsAt: Type.Optional({ ...Instant, description: 'of a forecast: when it is expected to be given back' }),
});

export const UnitAtATime = Type.Composite([
  Type.Object({
    name: UnitName,
    displayName: Type.String(),
    at: Type.String({ ...Instant, description: 'of a position: when the last commit up to it was recorded' }),
    view: View,
    forecast: Type.Boolean({ description: 'it lies ahead, and is what is expected' }),
    position: Type.String({ description: 'of the last commit of the unit that counts' }),
  }),
  Type.Omit(UnitDetails, ['responseTimes', 'configuration', 'lockerDetails']),
  Type.Object({
    configuration: Configuration,
    lockers: Type.Array(
      Type.Composite([
        Type.Omit(UnitDetails.properties.lockerDetails.items, ['rental']),
        Type.Object({ rental: OrNull(Rental) }),
      ]),
    ),
    reservations: Type.Array(
      Type.Composite([
        Type.Omit(Reservation, ['unit', 'accessCode', 'offlineToken']),
        Type.Object({ customer: Type.String(), startedAt: OrNull(Instant), course }),
      ]),
      { description: 'those that bind a locker then; of a forecast: those that do now, and what becomes of them' },
    ),
  }),
]);

const { unit: name, ...configuration } = VIEW_EXAMPLE;
const { address, probe, delivery, commandChannel, location, timeZone, tags } = UNIT_EXAMPLE;
const { displayName, status, credentialsRevoked, connectivity, log, gaps, lost, lastEventAt } = UNIT_EXAMPLE;
const { id, locker, size, from, until, holdExpiresAt, price } = RESERVATION_EXAMPLE;

export const STATE_EXAMPLE = {
  ...{ name, displayName, at: '2026-07-01T10:30:00.000Z', view: 'actual', forecast: false, position: '1234' },
  ...{ status, credentialsRevoked, address, probe, delivery, commandChannel, location, timeZone, tags, connectivity },
  ...{ configuration, log, gaps, lost, lastEventAt },
  lockers: UNIT_EXAMPLE.lockerDetails,
  reservations: [
    {
      ...{ id, locker, size, from, until, holdExpiresAt, price },
      ...{
        status: 'confirmed',
        unitAck: 'accepted',
        customer: '5d0c4f5e-3f0b-4a55-9a0e-1c9f7d1f2b11',
        startedAt: null,
      },
    },
  ],
};
