/** Units over REST: what each route takes and answers. */

import { type Static, Type } from '@sinclair/typebox';
import { CONFIGURATION_STATUSES } from '../../../domain/configuration/configuration.ts';
import { defaultConfiguration } from '../../../domain/configuration/default-configuration.ts';
import { VersionedConfiguration } from '../../../domain/configuration-values.ts';
import { OutOfServiceWhen, UnitProperties } from '../../../domain/events/registry.ts';
import { Instant, Locker, MAX_LOCKERS_PER_UNIT, Text, UnitName, Uuid } from '../../../domain/vocabulary.ts';
import { answer, operation } from '../../http/operation.ts';
import { NDJSON } from '../../http/request-body.ts';
import { ListQuery, MinPosition, OneOf, OrNull, pageOf, strict } from '../../http/schemas.ts';

const TAG = 'Units';
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
} as const;

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
    ...strict,
    title: 'RegisterUnit',
    examples: [REGISTRATION_EXAMPLE],
  },
);
export type Registration = Static<typeof Registration>;

const Credentials = Type.Object(
  {
    unitKey: Type.String({ description: 'The key of the HMAC in pings, in base64.' }),
    natsUrl: Type.String({ description: 'The address of the NATS server that the unit connects to.' }),
    natsCreds: Type.String({ description: 'The text of a NATS creds file.' }),
    natsInboxPrefix: Type.String({
      description: 'The prefix of the subjects on which the unit receives NATS replies.',
    }),
    platformPublicKey: Type.Object(
      { kty: Type.String(), crv: Type.String(), x: Type.String() },
      { additionalProperties: true, description: 'The key that verifies commands and offline tokens, as a JWK.' },
    ),
  },
  { title: 'UnitCredentials' },
);

/** A unit with its credentials, which a repeated request does not get again. */
const RegisteredUnit = Type.Object(
  { name: UnitName, credentials: Type.Optional(Credentials) },
  { title: 'RegisteredUnit', description: 'A repeated request is answered without `credentials`.' },
);

const CREDENTIALS_EXAMPLE = {
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
const UNIT_SORTS = ['name', 'state', 'lastOnlineAt', 'lastResponseTimeMs'] as const;

/** Selects units by the hash of their name. */
export const ShardPrefix = Type.String({
  pattern: '^[0-9a-f]{1,8}$',
  expects: '1 to 8 hex digits in lower case',
  description: 'The first hex letters of the SHA-256 of the unit’s name, by which work is split between servers.',
});

const GridRow = Type.Object(
  {
    name: UnitName,
    displayName: Type.String(),
    lockers: Type.Integer({ description: 'The number of lockers.' }),
    state: OneOf(UNIT_STATES, {
      description:
        '`never-seen`: the unit has not answered since its registration. `online`: it answers. `syncing`: it answers, and has ' +
        'events that the platform has not recorded yet. `offline`: it does not answer. `unknown`: no pinger asks it at the ' +
        'moment, or so many units vanished at once that the fault is likely to be elsewhere.',
    }),
    lastResponseTimeMs: OrNull(
      Type.Number({
        description: 'The response time of the last ping. It is null when the unit did not answer that ping.',
      }),
    ),
    lastOnlineAt: OrNull({ ...Instant, description: 'The last proof that the unit was online.' }),
    lastConfigPushedAt: OrNull({
      ...Instant,
      description: 'When the last push of a configuration ended, with an answer of the unit or without one.',
    }),
    configStatus: OneOf(CONFIGURATION_STATUSES, {
      description: 'The status of the desired configuration. `GET /v1/units/{name}/config` gives the reason.',
    }),
    backlog: Type.Integer({ description: 'The number of events at the unit that the platform has not recorded yet.' }),
    clockOffsetMs: OrNull(
      Type.Integer({ description: 'How far the clock of the unit is ahead. It is null before the first measurement.' }),
    ),
    clockWrong: Type.Boolean({
      description:
        'The clock is wrong by more than 2 s. Events of the unit carry the offset and their corrected time as long as it is.',
    }),
    unknownSince: OrNull({ ...Instant, description: 'Since when the state is `unknown`.' }),
    flapping: Type.Boolean({
      description:
        'The unit goes offline and comes back so often that the pinger waits longer before it reports a change.',
    }),
  },
  { title: 'UnitGridRow' },
);

const SeqRanges = (description: string) =>
  Type.Array(Type.Object({ epoch: Uuid, fromSeq: Type.Integer(), toSeq: Type.Integer() }, { title: 'SeqRange' }), {
    description,
  });

const ResponseTime = OrNull(Type.Number({ description: 'Milliseconds. It is null when no ping was answered.' }));

const OutOfService = Type.Object(
  {
    reason: Type.Optional(Text),
    when: OutOfServiceWhen,
    since: Instant,
    until: Type.Optional({
      ...Instant,
      description: 'When the locker is for rent again; without it, an operator decides.',
    }),
  },
  { title: 'OutOfService' },
);

/** A planned period in which no locker of the unit is for rent. */
export const Maintenance = Type.Object({
  id: Type.String(),
  from: Instant,
  until: Instant,
  reason: Text,
});

export const LockerDetails = Type.Object({
  ...Locker.properties,
  inService: Type.Boolean({
    description:
      'Whether the locker is for rent at the time of the answer: in service, and the unit not under maintenance.',
  }),
  outOfService: OrNull(OutOfService),
  door: OneOf(['open', 'closed', 'unknown']),
  rental: OrNull(
    Type.Object({
      rentalId: Type.String(),
      reservationId: Type.Optional(Type.String()),
      startedAt: Instant,
      until: Instant,
    }),
  ),
});

/** What is shown of one unit beside its row of the grid. */
export const UnitDetails = Type.Object({
  responseTimes: Type.Array(
    Type.Object(
      {
        from: { ...Instant, description: 'The beginning of the 5 minutes.' },
        sent: Type.Integer({ description: 'The number of pings.' }),
        lost: Type.Integer({ description: 'The number of pings without an answer.' }),
        minMs: ResponseTime,
        meanMs: ResponseTime,
        maxMs: ResponseTime,
      },
      { title: 'ResponseTimes' },
    ),
    { description: 'The pings of the last 24 hours, in buckets of 5 minutes, the oldest first.' },
  ),
  status: OneOf(['registered', 'retired']),
  credentialsRevoked: Type.Boolean({
    description: 'The unit has no valid credentials until an operator rotates them.',
  }),
  ...required,
  tags,
  connectivity: Type.Object(
    { status: Type.String() },
    { additionalProperties: true, description: 'Whether the unit is online, and since when.' },
  ),
  configuration: VersionedConfiguration,
  log: OrNull(
    Type.Object(
      { epoch: Uuid, recordedSeq: Type.Integer({ minimum: 0 }) },
      {
        description:
          'How far the platform has recorded the current epoch of the unit’s log. It is null before the first event.',
      },
    ),
  ),
  gaps: SeqRanges('Events that are missing between recorded ones, by epoch. The platform fetches them from the unit.'),
  lost: SeqRanges('The last lost range of each epoch: events that the unit no longer has.'),
  lastEventAt: OrNull(Instant),
  lockerDetails: Type.Array(LockerDetails),
  maintenance: Type.Array(Maintenance, { description: 'Planned periods in which no locker of the unit is for rent.' }),
  revision: Type.Integer({ minimum: 1, description: 'Grows with every change of the properties; the `ETag` has it.' }),
});

const Unit = Type.Composite([GridRow, UnitDetails], { title: 'Unit' });

const GRID_ROW_EXAMPLE = {
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
} as const;

const { displayName: exampleName, lockers: exampleLockers, ...exampleProperties } = REGISTRATION_EXAMPLE;

export const UNIT_EXAMPLE = {
  ...GRID_ROW_EXAMPLE,
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
  lockerDetails: exampleLockers.map(
    (locker) => ({ ...locker, inService: true, outOfService: null, door: 'closed', rental: null }) as const,
  ),
  maintenance: [],
  revision: 1,
} as const;

const params = Type.Object({ name: UnitName });

export const REGISTER = operation({
  id: 'registerUnit',
  tag: TAG,
  auth: 'ops',
  idempotent: true,
  summary: 'Register a unit',
  description:
    'Only the first answer shows the credentials; docs/unit-protocol.md specifies how the unit uses them. The read models show ' +
    'the unit a moment later, or at once in a read with `minPosition`. The name of a retired unit may be registered anew: the new unit ' +
    'has a key of its own.',
  body: Registration,
  answers: { 201: answer('The unit and its credentials.', RegisteredUnit, CREDENTIALS_EXAMPLE) },
  problems: ['validation', 'unit-in-use'],
});

export const IMPORT = operation({
  id: 'importUnits',
  tag: TAG,
  auth: 'ops',
  summary: 'Register many units',
  description:
    'The body has one unit a line. The answer has one line for each, in the same order: `{name, credentials}`, or ' +
    '`{name, problem}` for a unit that was not registered. The request takes no `Idempotency-Key`: in a repeat, each unit that is ' +
    'registered already has a problem in its line, and needs new credentials if the first answer was lost.',
  streamedBody: {
    contentType: NDJSON,
    schema: Registration,
    example: `${JSON.stringify(REGISTRATION_EXAMPLE)}\n`,
  },
  answers: {
    200: {
      description: 'A line for each unit.',
      contentType: NDJSON,
      schema: Type.String(),
      example: `${JSON.stringify(CREDENTIALS_EXAMPLE)}\n`,
    },
  },
  problems: ['validation'],
});

export const LIST = operation({
  id: 'listUnits',
  tag: TAG,
  auth: 'ops',
  minPosition: { readModel: 'units' },
  summary: 'List the units',
  query: Type.Object(
    {
      state: Type.Optional(OneOf(UNIT_STATES)),
      q: Type.Optional(
        Type.String({
          maxLength: 100,
          description: 'A part of the name or of the display name, in upper or lower case.',
        }),
      ),
      shard: Type.Optional(ShardPrefix),
      sort: Type.Optional(OneOf(UNIT_SORTS)),
      ...ListQuery,
      ...MinPosition,
    },
    strict,
  ),
  answers: {
    200: answer('A page of units.', pageOf(GridRow, 'UnitPage'), { items: [GRID_ROW_EXAMPLE], nextCursor: null }),
  },
  problems: ['validation'],
});

export const GET_ONE = operation({
  id: 'getUnit',
  tag: TAG,
  auth: 'ops',
  minPosition: { readModel: 'units' },
  summary: 'Get one unit',
  description: 'Its properties, whether it answers, and its lockers with their doors and rentals.',
  params,
  query: Type.Object(MinPosition, strict),
  answers: {
    200: {
      ...answer('The unit.', Unit, UNIT_EXAMPLE),
      headers: { etag: 'The revision of the unit in quotes; a change takes it as its `If-Match`.' },
    },
  },
  problems: ['validation', 'not-found'],
});

export const ROTATE_CREDENTIALS = operation({
  id: 'rotateUnitCredentials',
  tag: TAG,
  auth: 'ops',
  idempotent: true,
  summary: 'Give a unit new credentials',
  description:
    'The previous credentials end with this answer, and the platform cuts the connection that the unit has with them. A unit ' +
    'whose credentials were revoked gets new ones, too. Only the first answer shows them: an operator who has lost them rotates ' +
    'once more, with another Idempotency-Key.',
  params,
  answers: { 200: answer('The unit and its new credentials.', RegisteredUnit, CREDENTIALS_EXAMPLE) },
  problems: ['validation', 'not-found'],
});

export const REVOKE_CREDENTIALS = operation({
  id: 'revokeUnitCredentials',
  tag: TAG,
  auth: 'ops',
  idempotent: true,
  summary: 'Revoke the credentials of a unit',
  description:
    'The platform cuts the connection of the unit, which cannot open another one. It sends the unit no commands and no pings any ' +
    'more, so that its `state` becomes `unknown`. New credentials put the unit into use again. A second revocation changes ' +
    'nothing. The body may be left out.',
  params,
  body: Type.Optional(
    Type.Object(
      { reason: Type.Optional(Text) },
      { ...strict, title: 'RevokeCredentials', examples: [{ reason: 'stolen' }] },
    ),
  ),
  answers: {
    200: answer('The credentials have ended.', Type.Object({ name: UnitName }, { title: 'RevokedUnit' }), {
      name: 'PL-1000',
    }),
  },
  problems: ['validation', 'not-found'],
});
