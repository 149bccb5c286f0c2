import { Type } from '@sinclair/typebox';
import { VersionedConfiguration } from '../configuration-values.ts';
import { Locker, LockerId, MAX_LOCKERS_PER_UNIT, Text, UnitName } from '../vocabulary.ts';
import { defineEvent } from './define-event.ts';

const MAX_TAGS = 50;

export const Probe = Type.Union([Type.Literal('udp'), Type.Literal('http'), Type.Literal('nats')], {
  description: 'how it is pinged; `nats`: not at all, its heartbeats say that it is there',
});
export const Delivery = Type.Union([Type.Literal('push'), Type.Literal('fetch')], {
  description: 'how its log comes: it pushes batches, or is asked for pages at an interval',
});
export const CommandChannel = Type.Union([Type.Literal('http'), Type.Literal('nats')], {
  description: 'where commands and fetches go: to its address, or over NATS',
});
export const Location = Type.Object(
  { lat: Type.Number({ minimum: -90, maximum: 90 }), lon: Type.Number({ minimum: -180, maximum: 180 }) },
  { additionalProperties: false },
);
export const Tags = Type.Array(Type.String({ minLength: 1, maxLength: 64 }), { maxItems: MAX_TAGS, uniqueItems: true });

/** What an operator says about a unit and may change later. */
export const UnitProperties = {
  displayName: Type.String({ minLength: 1, maxLength: 200 }),
  address: Type.String({
    minLength: 1,
    maxLength: 260,
    description: 'host:port of the unit; nobody asks there with probe and commandChannel `nats`',
  }),
  probe: Probe,
  delivery: Delivery,
  commandChannel: CommandChannel,
  location: Location,
  timeZone: Type.String({ minLength: 1, maxLength: 64, description: 'IANA time zone' }),
  tags: Tags,
};

const Credentials = {
  keyVersion: Type.Integer({ minimum: 1, description: 'version of the derived unit key' }),
  natsUser: Type.String({ description: 'public key of the unit as a NATS user' }),
};

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
  LockerTakenOutOfService: defineEvent(
    'registry',
    'A locker is not for rent until it returns to service.',
    Type.Object({ id: LockerId, reason: Type.Optional(Text) }),
  ),
  LockerReturnedToService: defineEvent('registry', 'A locker is for rent again.', Type.Object({ id: LockerId })),
  UnitRetired: defineEvent('registry', 'A unit left the platform.', Type.Object({ reason: Type.Optional(Text) })),
};
