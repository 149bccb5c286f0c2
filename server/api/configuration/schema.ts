/** What operators say and see of configurations over REST. */

import { type Static, Type } from '@sinclair/typebox';
import { CONFIGURATION_STATUSES } from '../../../domain/configuration/state.ts';
import {
  ConfigurationValues,
  defaultConfiguration,
  VersionedConfiguration,
} from '../../../domain/configuration-values.ts';
import { Instant, Token, UnitName, Uuid } from '../../../domain/vocabulary.ts';
import { OrNull } from '../../http/schemas.ts';

const strict = { additionalProperties: false };
const Version = Type.Integer({ minimum: 1 });

const Mode = Type.Union([Type.Literal('live'), Type.Literal('queued')], {
  description: '`live`: sent within this request; `queued`: left to the background queue',
});
const IfOffline = Type.Union([Type.Literal('refuse'), Type.Literal('queue')], {
  default: 'refuse',
  description: 'what becomes of a live change of a unit that is known to be offline',
});

const EXAMPLE_VALUES = defaultConfiguration(600);

export const ChangeBody = Type.Object(
  { mode: Mode, values: ConfigurationValues, ifOffline: Type.Optional(IfOffline) },
  { ...strict, examples: [{ mode: 'live', values: EXAMPLE_VALUES.values }] },
);
export type ChangeBody = Static<typeof ChangeBody>;

export const RollbackBody = Type.Object(
  {
    version: Type.Integer({ minimum: 1, description: 'whose values are wanted again' }),
    mode: Mode,
    ifOffline: Type.Optional(IfOffline),
  },
  { ...strict, examples: [{ version: 1, mode: 'queued' }] },
);
export type RollbackBody = Static<typeof RollbackBody>;

export const ConfigurationView = Type.Object({
  unit: UnitName,
  desired: VersionedConfiguration,
  reported: OrNull(
    Type.Object(
      { hash: Token, at: Instant },
      { description: 'what the unit last said that it runs; null before that' },
    ),
  ),
  status: Type.Union(
    CONFIGURATION_STATUSES.map((status) => Type.Literal(status)),
    {
      description:
        '`applied`: the unit proved the hash; `pending`: being sent, or never heard of; `queued`: waits for its turn or for the ' +
        'unit; `drifted`: it said that it runs something else; `failed`: the last push did, and comes again; `rejected`: the ' +
        'unit said no, and nothing is sent before another change',
    },
  ),
  wantedAt: Instant,
  attempts: Type.Integer({ minimum: 0, description: 'pushes that failed in a row' }),
  nextAttemptAt: OrNull({ ...Instant, description: 'null while nothing is due, as for a unit that is offline' }),
  lastPushedAt: OrNull(Instant),
  reason: OrNull(Type.String({ description: 'why the last push failed, or the unit said no' })),
});
export type ConfigurationView = Static<typeof ConfigurationView>;

export const VIEW_EXAMPLE: ConfigurationView = {
  unit: 'PL-1000',
  desired: { ...EXAMPLE_VALUES, version: 3 },
  reported: { hash: EXAMPLE_VALUES.hash, at: '2026-07-01T10:00:00.120Z' },
  status: 'applied',
  wantedAt: '2026-07-01T09:59:59.900Z',
  attempts: 0,
  nextAttemptAt: null,
  lastPushedAt: '2026-07-01T10:00:00.120Z',
  reason: null,
};

const Difference = Type.Object({
  path: Type.String({ description: 'JSON pointer; prices stand under their size' }),
  before: Type.Optional(Type.Unknown()),
  after: Type.Optional(Type.Unknown()),
});

export const VersionView = Type.Object({
  version: Version,
  hash: VersionedConfiguration.properties.hash,
  mode: OrNull(Mode),
  rolloutId: OrNull(Uuid),
  wantedAt: Instant,
  wantedBy: Type.String({ description: 'who wanted it, such as `ops:me`' }),
  status: Type.Union(
    [...CONFIGURATION_STATUSES, 'replaced'].map((status) => Type.Literal(status)),
    { description: '`replaced`: a newer one was wanted before the unit proved this one' },
  ),
  reason: OrNull(Type.String()),
  appliedAt: OrNull({ ...Instant, description: 'when the unit first proved that it runs it' }),
  changes: Type.Array(Difference, { description: 'against the version before' }),
});
export const WholeVersionView = Type.Object({ ...VersionView.properties, values: ConfigurationValues });

export const VERSION_EXAMPLE = {
  version: 3,
  hash: EXAMPLE_VALUES.hash,
  mode: 'live',
  rolloutId: null,
  wantedAt: '2026-07-01T09:59:59.900Z',
  wantedBy: 'ops:me',
  status: 'applied',
  reason: null,
  appliedAt: '2026-07-01T10:00:00.120Z',
  changes: [{ path: '/prices/S', before: { perHour: 200, currency: 'EUR' }, after: { perHour: 250, currency: 'EUR' } }],
};

export const AttemptView = Type.Object({
  at: Instant,
  version: Version,
  outcome: Type.Union(
    ['applied', 'reported', 'drifted', 'rejected', 'failed'].map((outcome) => Type.Literal(outcome)),
    {
      description:
        '`reported`: the unit proved it in a ping, a heartbeat or its log; `drifted`: there it said that it runs something else',
    },
  ),
  attempt: OrNull(Type.Integer({ description: 'of a failed one: how many failed in a row' })),
  reason: OrNull(Type.String()),
  reportedHash: OrNull(Type.String()),
  nextAttemptAt: OrNull(Instant),
});

export const ATTEMPT_EXAMPLE = {
  at: '2026-07-01T09:59:00.000Z',
  version: 3,
  outcome: 'failed',
  attempt: 1,
  reason: 'no answer from PL-1000: the operation was aborted',
  reportedHash: null,
  nextAttemptAt: '2026-07-01T10:00:00.000Z',
};
