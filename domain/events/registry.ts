import { Type } from '@sinclair/typebox';
import { VersionedConfiguration } from '../configuration-values.ts';
import {
  Identifier,
  Instant,
  Locker,
  LockerId,
  MAX_LOCKERS_PER_UNIT,
  MAX_TEXT_LENGTH,
  Text,
  UnitName,
} from '../vocabulary.ts';
import { OpenResult } from './booking.ts';
import { defineEvent } from './define-event.ts';

const MAX_TAGS = 50;

export const Probe = Type.Union([Type.Literal('udp'), Type.Literal('http'), Type.Literal('nats')], {
  description: 'How the pinger asks the unit: by UDP or HTTP at its `address`, or over NATS.',
});
export const Delivery = Type.Union([Type.Literal('push'), Type.Literal('fetch')], {
  description:
    'How the platform gets the log of the unit: the unit pushes batches, or the platform fetches pages at an interval.',
});
export const CommandChannel = Type.Union([Type.Literal('http'), Type.Literal('nats')], {
  description: 'How commands and fetches reach the unit: by HTTP at its `address`, or over NATS.',
});
export const Location = Type.Object(
  { lat: Type.Number({ minimum: -90, maximum: 90 }), lon: Type.Number({ minimum: -180, maximum: 180 }) },
  { additionalProperties: false },
);
export const Tags = Type.Array(Type.String({ minLength: 1, maxLength: 64 }), { maxItems: MAX_TAGS, uniqueItems: true });

/** The properties of a unit that an operator sets and may change. */
export const UnitProperties = {
  displayName: Type.String({ minLength: 1, maxLength: 200 }),
  address: Type.String({
    minLength: 1,
    maxLength: 260,
    description:
      'The address of the unit as host:port. The platform does not use it when `probe` and `commandChannel` are `nats`.',
  }),
  probe: Probe,
  delivery: Delivery,
  commandChannel: CommandChannel,
  location: Location,
  timeZone: Type.String({
    minLength: 1,
    maxLength: 64,
    description: 'The time zone of the unit in the IANA database, such as Europe/Warsaw.',
  }),
  tags: Tags,
};

const Credentials = {
  keyVersion: Type.Integer({ minimum: 1, description: 'The version of the derived unit key.' }),
  natsUser: Type.String({ maxLength: MAX_TEXT_LENGTH, description: 'The public key of the NATS user of the unit.' }),
};

export const OutOfServiceWhen = Type.Union([Type.Literal('now'), Type.Literal('when-free')], {
  description:
    '`now`: bookings of the locker move to other lockers or are given up. `when-free`: they stay, and the locker is not sold any ' +
    'more.',
  default: 'now',
});

export const registryEvents = {
  UnitRegistered: defineEvent(
    'registry',
    'A unit joined the platform, with its lockers and the configuration it starts with.',
    Type.Object({
      name: UnitName,
      ...UnitProperties,
      lockers: Type.Array(Locker, { maxItems: MAX_LOCKERS_PER_UNIT }),
      configuration: VersionedConfiguration,
      ...Credentials,
    }),
  ),
  UnitUpdated: defineEvent(
    'registry',
    'An operator changed what is known about a unit.',
    Type.Partial(Type.Object(UnitProperties)),
  ),
  UnitCredentialsRotated: defineEvent(
    'registry',
    'A unit got new credentials; the old ones end.',
    Type.Object(Credentials),
  ),
  UnitCredentialsRevoked: defineEvent(
    'registry',
    'A unit lost its credentials.',
    Type.Object({ reason: Type.Optional(Text) }),
  ),
  LockerAdded: defineEvent('registry', 'A unit grew by a locker.', Locker),
  LockerRemoved: defineEvent('registry', 'A unit lost a locker.', Type.Object({ id: LockerId })),
  LockerTakenOutOfService: defineEvent(
    'registry',
    'A locker is not for rent until it returns to service.',
    Type.Object({
      id: LockerId,
      reason: Type.Optional(Text),
      when: Type.Optional(OutOfServiceWhen),
      until: Type.Optional({
        ...Instant,
        description: 'When the locker is for rent again; without it, an operator decides.',
      }),
    }),
  ),
  LockerReturnedToService: defineEvent('registry', 'A locker is for rent again.', Type.Object({ id: LockerId })),
  UnitMaintenancePlanned: defineEvent(
    'registry',
    'An operator planned a period in which no locker of the unit is for rent.',
    Type.Object({ id: Identifier, from: Instant, until: Instant, reason: Text }),
  ),
  UnitMaintenanceCancelled: defineEvent(
    'registry',
    'A planned maintenance does not take place, or ends early.',
    Type.Object({ id: Identifier }),
  ),
  ServiceOpenRequested: defineEvent(
    'registry',
    'An operator asked a unit to open a locker now. The actor of the event is the operator.',
    Type.Object({ locker: LockerId, commandId: Identifier, reason: Text, expiresAt: Instant }),
  ),
  ServiceOpenAnswered: defineEvent(
    'registry',
    'What came of an operator’s request to open.',
    Type.Object({ locker: LockerId, commandId: Identifier, result: OpenResult, reason: Type.Optional(Text) }),
  ),
  UnitRetired: defineEvent(
    'registry',
    'A unit left the platform.',
    Type.Object({
      reason: Type.Optional(Text),
      forced: Type.Optional(
        Type.Boolean({
          description: 'The operator gave up what stood in the way: bookings, rentals, unrecorded events.',
        }),
      ),
    }),
  ),
};
