/** A unit at another time over REST: what the route takes and answers. */

import { type Static, Type } from '@sinclair/typebox';
import { COURSES } from '../../../domain/unit/forecast.ts';
import { Instant, UnitName } from '../../../domain/vocabulary.ts';
import { answer, operation } from '../../http/operation.ts';
import { MinPosition, OneOf, OrNull, POSITION_EXPECTED, POSITION_PATTERN, strict } from '../../http/schemas.ts';
import { ConfigurationView, VIEW_EXAMPLE } from '../configuration/schema.ts';
import { RESERVATION_EXAMPLE, Reservation } from '../reservations/schema.ts';
import { UNIT_EXAMPLE, UnitDetails } from '../units/schema.ts';
import { MAX_CONCURRENT_FOLDS, MAX_FOLDED_EVENTS, MAX_FORECAST_DAYS } from './unit-history.ts';

const View = OneOf(['actual', 'believed'], {
  description:
    '`actual`: the unit as it was. `believed`: the unit as the platform knew it at that time, which is the view at a position.',
});
export type View = Static<typeof View>;

const StateQuery = Type.Object(
  {
    at: Type.Optional({ ...Instant, description: 'A time in the past or future: RFC 3339, UTC.' }),
    atPosition: Type.Optional(
      Type.String({
        pattern: POSITION_PATTERN,
        expects: POSITION_EXPECTED,
        description: 'A position of the event log instead of a time: `1234` or `1234.0`.',
      }),
    ),
    view: Type.Optional(View),
    ...MinPosition,
  },
  strict,
);
export type StateQuery = Static<typeof StateQuery>;

const course = Type.Optional(
  OneOf(COURSES, { description: 'In a forecast: whether its period is expected to be ahead, running or over.' }),
);

const Configuration = Type.Composite([
  Type.Omit(ConfigurationView, ['unit', 'nextAttemptAt']),
  Type.Object({
    nextAttemptAt: OrNull({ ...Instant, description: 'When the next push was due, after one that failed.' }),
    expected: Type.Optional(
      OrNull(
        Type.Object(
          { status: Type.Literal('applied'), at: Instant },
          {
            description:
              'In a forecast: when the unit is expected to apply the desired configuration. It is null when that is later.',
          },
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
  endsAt: Type.Optional({
    ...Instant,
    description: 'In a forecast: when the customer is expected to give the locker back.',
  }),
});

const UnitAtTime = Type.Composite(
  [
    Type.Object({
      name: UnitName,
      displayName: Type.String(),
      at: { ...Instant, description: 'The time. For a position: when the last commit up to it was recorded.' },
      view: View,
      forecast: Type.Boolean({ description: 'Whether the time is in the future and the answer is a forecast.' }),
      position: Type.String({ description: 'The position of the last commit of the unit that the answer includes.' }),
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
          Type.Omit(Reservation, ['unit', 'customer', 'accessCode', 'offlineToken']),
          Type.Object({ customer: Type.String(), startedAt: OrNull(Instant), course }),
        ]),
        {
          description:
            'The reservations that block a locker at that time. In a forecast: those that do now, with their expected status.',
        },
      ),
    }),
  ],
  { title: 'UnitAtTime' },
);

const { unit: name, ...configuration } = VIEW_EXAMPLE;
const { address, probe, delivery, commandChannel, location, timeZone, tags } = UNIT_EXAMPLE;
const { displayName, status, credentialsRevoked, connectivity, log, gaps, lost, lastEventAt } = UNIT_EXAMPLE;
const { id, locker, size, from, until, holdExpiresAt, price } = RESERVATION_EXAMPLE;

const STATE_EXAMPLE = {
  ...{ name, displayName, at: '2026-07-01T10:30:00.000Z', view: 'actual' as const, forecast: false, position: '1234' },
  ...{ status, credentialsRevoked, address, probe, delivery, commandChannel, location, timeZone, tags, connectivity },
  ...{ configuration, log, gaps, lost, lastEventAt },
  lockers: UNIT_EXAMPLE.lockerDetails,
  maintenance: UNIT_EXAMPLE.maintenance,
  revision: UNIT_EXAMPLE.revision,
  reservations: [
    {
      ...{ id, locker, size, from, until, holdExpiresAt, price },
      ...{
        status: 'confirmed' as const,
        unitAck: 'accepted' as const,
        customer: '5d0c4f5e-3f0b-4a55-9a0e-1c9f7d1f2b11',
        startedAt: null,
      },
    },
  ],
};

export const GET_STATE = operation({
  id: 'getUnitState',
  tag: 'Units',
  auth: 'ops',
  minPosition: { readModel: 'event_log' },
  summary: 'Get one unit at another time, past or future',
  description: [
    'Name either `at` or `atPosition`. With `view=actual`, the default, the answer is the unit as it was: it includes every event ' +
      'that had happened by then, also events that the platform recorded later, such as the log of a unit that was offline. A ' +
      'reservation that the unit reports as used counts as used. With `view=believed` the answer is the unit as the platform ' +
      'knew it: it includes only events that were recorded by then. At a position the view is always `believed`.',
    'The time of an event is the time of its source, without the offset of a clock that was known to be wrong, and never later ' +
      'than its recording. Events keep the order of their log: the answer includes a log up to its first event after `at`. Where ' +
      'a clock was set back, an earlier event that claims a time after `at` hides the events behind it. Whether the unit was ' +
      'online is what the platform observed.',
    `An \`at\` in the future, at most ${MAX_FORECAST_DAYS} days ahead, is answered with \`forecast: true\`, starting from the present. ` +
      'The `status` of a reservation is what the platform will decide by time alone: a hold that nobody confirms expires, and a ' +
      'reservation that nobody uses expires 24 hours after its period. `course` assumes that customers use what they confirmed ' +
      'and give the locker back at the end of the period, or within 30 minutes where they are overdue now. A configuration that ' +
      'waits is expected to be applied at its next attempt, if the unit is online now. The forecast assumes no new requests, and ' +
      'that the unit stays as reachable, and its doors as open or closed, as they are.',
    `The server folds the past from the event log, at most ${MAX_FOLDED_EVENTS} events of the unit for one request, and answers 422 ` +
      `where more are needed. A server folds for ${MAX_CONCURRENT_FOLDS} requests at the same time and answers others 503; it also ` +
      'answers 503 while events of the unit are parked in the event log. A unit is 404 before its registration.',
  ].join('\n\n'),
  params: Type.Object({ name: UnitName }),
  query: StateQuery,
  answers: { 200: answer('The unit at that time.', UnitAtTime, STATE_EXAMPLE) },
  problems: ['validation', 'not-found'],
});
