/** What operators say and see of units over REST. */

import { type Static, Type } from '@sinclair/typebox';
import { UnitProperties } from '../../domain/events/registry.ts';
import { Instant, Locker, MAX_LOCKERS_PER_UNIT, UnitName } from '../../domain/vocabulary.ts';

const { displayName, tags, ...required } = UnitProperties;

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
    examples: [
      {
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
      },
    ],
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

export const CREDENTIALS_EXAMPLE = {
  name: 'PL-1000',
  credentials: {
    unitKey: 'q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=',
    natsUrl: 'nats://nats.example.com:4222',
    natsCreds: '-----BEGIN NATS USER JWT-----\n…',
    natsInboxPrefix: '_INBOX_PL-1000',
    platformPublicKey: { kty: 'OKP', crv: 'Ed25519', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo' },
  },
};

export const UNIT_STATES = ['never-seen', 'online', 'syncing', 'offline', 'unknown'] as const;
export const UNIT_SORTS = ['name', 'state', 'lastOnlineAt', 'lastResponseTimeMs'] as const;

const OrNull = (schema: Parameters<typeof Type.Union>[0][number]) => Type.Union([schema, Type.Null()]);

export const GridRow = Type.Object({
  name: UnitName,
  displayName: Type.String(),
  lockers: Type.Integer(),
  state: Type.Union(UNIT_STATES.map((state) => Type.Literal(state))),
  lastResponseTimeMs: OrNull(Type.Number()),
  lastOnlineAt: OrNull(Instant),
  lastConfigPushedAt: OrNull(Instant),
  configStatus: Type.String(),
  backlog: Type.Integer({ description: 'events at the unit that are not recorded yet' }),
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
    },
  ],
  nextCursor: null,
};
