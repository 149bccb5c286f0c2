/** What operators say and see of units over REST. */

import { type Static, Type } from '@sinclair/typebox';
import { CONFIGURATION_STATUSES } from '../../../domain/configuration/state.ts';
import { defaultConfiguration, VersionedConfiguration } from '../../../domain/configuration-values.ts';
import { UnitProperties } from '../../../domain/events/registry.ts';
import { Instant, Locker, MAX_LOCKERS_PER_UNIT, UnitName, Uuid } from '../../../domain/vocabulary.ts';

const { displayName, tags, ...required } = UnitProperties;

const REGISTRATION_EXAMPLE = {
  name: 'PL-1000',
  displayName: 'Gdańsk, main station',
  address: '10.20.0.17:7800',
  probe: 'http',
  delivery: 'push',
  commandChannel: 'http',
  location: { lat: 54.3557, lon: 18.6446 },
  timeZone: 'Europe/Warsaw',
  tags: ['station'],
  lockers: [
    { id: 'A', size: 'S' },
    { id: 'B', size: 'M' },
  ],
};

export const Registration = Type.Object(
  {
    name: UnitName,
    displayName: Type.Optional(displayName),
    ...required,
    tags: Type.Optional(tags),
    lockers: Type.Array(Type.Object(Locker.properties, { additionalProperties: false }), {
      minItems: 1,
      maxItems: MAX_LOCKERS_PER_UNIT,
    }),
  },
  {
    additionalProperties: false,
    examples: [REGISTRATION_EXAMPLE],
  },
);
export type Registration = Static<typeof Registration>;

export const Credentials = Type.Object({
  unitKey: Type.String({ description: 'base64, the key of the ping’s HMAC' }),
  natsUrl: Type.String(),
  natsCreds: Type.String({ description: 'the text of a creds file' }),
  natsInboxPrefix: Type.String(),
  platformPublicKey: Type.Object({ kty: Type.String(), crv: Type.String(), x: Type.String() }),
});

export const Registered = Type.Object({ name: UnitName, credentials: Credentials });
export const Named = Type.Object({ name: UnitName });

export const CREDENTIALS_EXAMPLE = {
  name: 'PL-1000',
  credentials: {
    unitKey: 'q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=',
    natsUrl: 'nats://nats.example.com:4222',
    natsCreds: '-----BEGIN NATS USER JWT-----\n…',
    natsInboxPrefix: '_INBOX_8f14e45fceea167a5a36dedd4bea2543',
    platformPublicKey: { kty: 'OKP', crv: 'Ed25519', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo' },
  },
};

export const UNIT_STATES = ['never-seen', 'online', 'syncing', 'offline', 'unknown'] as const;
export const UNIT_SORTS = ['name', 'state', 'lastOnlineAt', 'lastResponseTimeMs'] as const;

const OrNull = (schema: Parameters<typeof Type.Union>[0][number]) => Type.Union([schema, Type.Null()]);

export const GridRow = Type.Object({
  name: UnitName,
  displayName: Type.String(),
  lockers: Type.Integer({ description: 'how many' }),
  state: Type.Union(
    UNIT_STATES.map((state) => Type.Literal(state)),
    { description: '`syncing`: online, with events that are not recorded yet; `unknown`: nobody has asked it of late' },
  ),
  lastResponseTimeMs: OrNull(Type.Number({ description: 'of the last ping; null when none was answered' })),
  lastOnlineAt: OrNull(Instant),
  lastConfigPushedAt: OrNull({ ...Instant, description: 'when a push was last answered, or given up' }),
  configStatus: Type.Union(
    CONFIGURATION_STATUSES.map((status) => Type.Literal(status)),
    {
      description: 'how far the wanted configuration is: `GET /v1/units/{name}/config` says why',
    },
  ),
  backlog: Type.Integer({ description: 'events at the unit that are not recorded yet' }),
  clockOffsetMs: OrNull(
    Type.Integer({ description: 'by how much the unit’s clock is ahead; null when nobody has heard it' }),
  ),
  clockWrong: Type.Boolean({
    description: 'the offset is more than 2 s: events of the unit carry it, and their corrected time',
  }),
  unknownSince: OrNull({
    ...Instant,
    description: 'of a unit that is `unknown`: since when nobody looks, or too many vanished at once for it to be them',
  }),
  flapping: Type.Boolean({ description: 'it goes offline and comes back too often to be believed at once' }),
});

const SeqRanges = (description: string) =>
  Type.Array(Type.Object({ epoch: Uuid, fromSeq: Type.Integer(), toSeq: Type.Integer() }), { description });

const Ms = OrNull(Type.Number({ description: 'of the pings that were answered; null when none was' }));

/** What is shown of one unit beside its row of the grid. */
export const UnitDetails = Type.Object({
  responseTimes: Type.Array(
    Type.Object({
      from: Instant,
      sent: Type.Integer(),
      lost: Type.Integer(),
      minMs: Ms,
      meanMs: Ms,
      maxMs: Ms,
    }),
    { description: 'its pings in the last 24 hours, in buckets of 5 minutes' },
  ),
  status: Type.Union([Type.Literal('registered'), Type.Literal('retired')]),
  credentialsRevoked: Type.Boolean({ description: 'it has none, until they are rotated' }),
  ...required,
  tags,
  connectivity: Type.Object({}, { additionalProperties: true, description: 'its `status`, and since when' }),
  configuration: VersionedConfiguration,
  log: OrNull(
    Type.Object(
      { epoch: Uuid, recordedSeq: Type.Integer({ minimum: 0 }) },
      { description: 'how far the present epoch is recorded; null while nothing is' },
    ),
  ),
  gaps: SeqRanges('what is missing between events that arrived, by epoch: a fetch is to close it'),
  lost: SeqRanges('what was given up last, by epoch: the unit no longer has it'),
  lastEventAt: OrNull(Instant),
  lockerDetails: Type.Array(
    Type.Object({
      ...Locker.properties,
      inService: Type.Boolean(),
      door: Type.Union([Type.Literal('open'), Type.Literal('closed'), Type.Literal('unknown')]),
      rental: OrNull(
        Type.Object({
          rentalId: Type.String(),
          reservationId: Type.Optional(Type.String()),
          startedAt: Instant,
          until: Instant,
        }),
      ),
    }),
  ),
});

export const GRID_EXAMPLE = {
  items: [
    {
      name: 'PL-1000',
      displayName: 'Gdańsk, main station',
      lockers: 8,
      state: 'online',
      lastResponseTimeMs: 41.7,
      lastOnlineAt: '2026-07-01T10:00:00.120Z',
      lastConfigPushedAt: null,
      configStatus: 'applied',
      backlog: 0,
      clockOffsetMs: -12,
      clockWrong: false,
      unknownSince: null,
      flapping: false,
    },
  ],
  nextCursor: null,
};

const { displayName: exampleName, lockers: exampleLockers, ...exampleProperties } = REGISTRATION_EXAMPLE;

export const UNIT_EXAMPLE = {
  ...GRID_EXAMPLE.items[0],
  responseTimes: [{ from: '2026-07-01T09:55:00.000Z', sent: 30, lost: 1, minMs: 38.2, meanMs: 42.5, maxMs: 61 }],
  ...exampleProperties,
  displayName: exampleName,
  lockers: exampleLockers.length,
  status: 'registered',
  credentialsRevoked: false,
  connectivity: { status: 'online', since: '2026-07-01T09:00:00.000Z' },
  configuration: defaultConfiguration(600),
  log: { epoch: '0197c5ed-3a00-7b1e-8f00-0a1b2c3d4e5f', recordedSeq: 41 },
  gaps: [],
  lost: [],
  lastEventAt: '2026-07-01T09:59:58.000Z',
  lockerDetails: exampleLockers.map((locker) => ({ ...locker, inService: true, door: 'closed', rental: null })),
};
