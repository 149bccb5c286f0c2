/** What operators say and see of rollouts over REST. */

import { type Static, Type } from '@sinclair/typebox';
import {
  AbortThreshold,
  DEFAULT_ABORT_THRESHOLD,
  Rate,
  ROLLOUT_STATUSES,
  ROLLOUT_UNIT_STATUSES,
  RolloutChanges,
  Waves,
} from '../../../domain/configuration/rollout.ts';
import { Instant, Text, UnitName, Uuid } from '../../../domain/vocabulary.ts';
import { UNIT_STATES } from '../units/schema.ts';

/** Units that can be named one by one. */
const MAX_NAMED_UNITS = 10_000;
const MAX_SELECTED_TAGS = 50;

const strict = { additionalProperties: false };
const OrNull = (schema: Parameters<typeof Type.Union>[0][number]) => Type.Union([schema, Type.Null()]);

export const Selection = Type.Object(
  {
    all: Type.Optional(Type.Literal(true, { description: 'every unit' })),
    names: Type.Optional(
      Type.Array(UnitName, { minItems: 1, maxItems: MAX_NAMED_UNITS, uniqueItems: true, description: 'in this order' }),
    ),
    shard: Type.Optional(Type.String({ pattern: '^[0-9a-f]{1,8}$', description: 'prefix of the hash of the name' })),
    state: Type.Optional(Type.Union(UNIT_STATES.map((state) => Type.Literal(state)))),
    tags: Type.Optional(
      Type.Array(Type.String({ maxLength: 100 }), {
        minItems: 1,
        maxItems: MAX_SELECTED_TAGS,
        description: 'all of them',
      }),
    ),
  },
  { ...strict, minProperties: 1, description: 'units for which all of this holds, as they are now' },
);
export type Selection = Static<typeof Selection>;

export const RolloutBody = Type.Object(
  {
    selection: Selection,
    changes: RolloutChanges,
    rate: Type.Optional(Rate),
    waves: Type.Optional(Waves),
    abortThreshold: Type.Optional(AbortThreshold),
  },
  {
    ...strict,
    description: 'Either `rate` or `waves`, not both; by default 600 units a minute.',
    examples: [
      {
        selection: { tags: ['station'], state: 'online' },
        changes: { minimumMinutes: 30 },
        waves: [
          { units: 5, waitS: 600 },
          { units: 100, waitS: 60 },
        ],
        abortThreshold: DEFAULT_ABORT_THRESHOLD,
      },
    ],
  },
);
export type RolloutBody = Static<typeof RolloutBody>;

export const ActionBody = Type.Optional(
  Type.Object({ reason: Type.Optional(Text) }, { ...strict, examples: [{ reason: 'wrong prices' }] }),
);

const RolloutUnitStatus = Type.Union(ROLLOUT_UNIT_STATUSES.map((status) => Type.Literal(status)));

export const RolloutView = Type.Object({
  id: Uuid,
  createdAt: Instant,
  createdBy: Type.String(),
  status: Type.Union(
    ROLLOUT_STATUSES.map((status) => Type.Literal(status)),
    {
      description:
        '`aborting`: units that have not proved it get back what was wanted before; `completed`: none is left to wait for',
    },
  ),
  statusAt: Instant,
  statusBy: Type.String(),
  statusReason: OrNull(Type.String()),
  selection: Selection,
  changes: RolloutChanges,
  rate: Type.Optional(Rate),
  waves: Type.Optional(Waves),
  abortThreshold: AbortThreshold,
  units: Type.Optional(
    Type.Object(
      { total: Type.Integer(), ...Object.fromEntries(ROLLOUT_UNIT_STATUSES.map((status) => [status, Type.Integer()])) },
      {
        description:
          'how many are in each state. `waiting`: it has not come to them; `skipped`: the changes do not fit them; `replaced`: ' +
          'something else was wanted since; `withdrawn`: the abort took it back. The others are states of their configuration',
      },
    ),
  ),
});

export const ROLLOUT_EXAMPLE = {
  id: '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55',
  createdAt: '2026-07-01T10:00:00.000Z',
  createdBy: 'ops:me',
  status: 'running',
  statusAt: '2026-07-01T10:00:00.000Z',
  statusBy: 'ops:me',
  statusReason: null,
  ...RolloutBody.examples[0],
  units: {
    total: 420,
    waiting: 300,
    skipped: 1,
    pending: 0,
    queued: 12,
    failed: 1,
    rejected: 0,
    applied: 106,
    drifted: 0,
    replaced: 0,
    withdrawn: 0,
  },
};

export const RolloutUnitView = Type.Object({
  unit: UnitName,
  version: OrNull(Type.Integer()),
  status: RolloutUnitStatus,
  reason: OrNull(Type.String({ description: 'why it was skipped, failed or was rejected' })),
  attempts: Type.Integer(),
  startedAt: OrNull(Instant),
  nextAttemptAt: OrNull(Instant),
  appliedAt: OrNull(Instant),
});

export const ROLLOUT_UNIT_EXAMPLE = {
  unit: 'PL-1000',
  version: 3,
  status: 'applied',
  reason: null,
  attempts: 0,
  startedAt: '2026-07-01T10:00:00.500Z',
  nextAttemptAt: null,
  appliedAt: '2026-07-01T10:00:00.620Z',
};
