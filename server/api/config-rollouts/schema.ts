/** Rollouts over REST: what each route takes and answers. */

import { type Static, type TSchema, Type } from '@sinclair/typebox';
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
import { answer, operation } from '../../http/operation.ts';
import { OneOf, OrNull, PageQuery, pageOf, strict } from '../../http/schemas.ts';
import { UNIT_STATES } from '../units/schema.ts';

/** The largest number of units that a selection can name. */
const MAX_NAMED_UNITS = 10_000;
const MAX_SELECTED_TAGS = 50;

const TAG = 'Configuration';
const params = Type.Object({ id: { ...Uuid, description: 'The id of the rollout.' } });

const Selection = Type.Object(
  {
    all: Type.Optional(Type.Literal(true, { description: 'Every unit.' })),
    names: Type.Optional(
      Type.Array(UnitName, {
        minItems: 1,
        maxItems: MAX_NAMED_UNITS,
        uniqueItems: true,
        description: 'These units, in this order.',
      }),
    ),
    shard: Type.Optional(
      Type.String({
        pattern: '^[0-9a-f]{1,8}$',
        expects: '1 to 8 hex digits in lower case',
        description: 'The units of this shard: a prefix of the hash of the name.',
      }),
    ),
    state: Type.Optional(OneOf(UNIT_STATES, { description: 'Units in this state.' })),
    tags: Type.Optional(
      Type.Array(Type.String({ maxLength: 100 }), {
        minItems: 1,
        maxItems: MAX_SELECTED_TAGS,
        description: 'Units that have all of these tags.',
      }),
    ),
  },
  {
    ...strict,
    minProperties: 1,
    title: 'Selection',
    description: 'The units for which every named condition holds now.',
  },
);
export type Selection = Static<typeof Selection>;

const RolloutBody = Type.Object(
  {
    selection: Selection,
    changes: RolloutChanges,
    rate: Type.Optional(Rate),
    waves: Type.Optional(Waves),
    abortThreshold: Type.Optional(AbortThreshold),
  },
  {
    ...strict,
    title: 'CreateRollout',
    description: 'Names either `rate` or `waves`; without both, 600 units a minute.',
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

const ActionBody = Type.Optional(
  Type.Object(
    { reason: Type.Optional({ ...Text, description: 'Why the operator does it.' }) },
    { ...strict, title: 'RolloutAction', examples: [{ reason: 'wrong prices' }] },
  ),
);

const UnitCount = Type.Optional(Type.Integer({ minimum: 0 }));

const Rollout = Type.Object(
  {
    id: { ...Uuid, description: 'The id of the rollout; it is the `correlationid` of its events.' },
    createdAt: Instant,
    createdBy: Type.String({ description: 'The operator who created it.' }),
    status: OneOf(ROLLOUT_STATUSES, {
      description:
        '`running`, `paused`. `aborting`: units that have not proved the change get back what was desired before. `aborted`: they ' +
        'have it back. `completed`: every unit has an outcome.',
    }),
    statusAt: { ...Instant, description: 'Since when it has this status.' },
    statusBy: Type.String({ description: 'The operator, or the part of the platform, that set the status.' }),
    statusReason: OrNull(Type.String({ description: 'Why the status was set; null without a reason.' })),
    selection: Selection,
    changes: RolloutChanges,
    rate: Type.Optional(Rate),
    waves: Type.Optional(Waves),
    abortThreshold: AbortThreshold,
    units: Type.Optional(
      Type.Object(
        {
          total: Type.Integer({ minimum: 0 }),
          waiting: UnitCount,
          skipped: UnitCount,
          pending: UnitCount,
          queued: UnitCount,
          failed: UnitCount,
          rejected: UnitCount,
          applied: UnitCount,
          drifted: UnitCount,
          replaced: UnitCount,
          withdrawn: UnitCount,
        } satisfies Record<'total' | (typeof ROLLOUT_UNIT_STATUSES)[number], TSchema>,
        {
          description:
            'The number of units in each state; a state without units is absent. `waiting`: not changed yet. `skipped`: the changes do not fit the unit. ' +
            '`replaced`: an operator changed it again since. `withdrawn`: the abort restored what was desired before. The others ' +
            'are states of their configuration.',
        },
      ),
    ),
  },
  { title: 'Rollout' },
);

const RolloutUnit = Type.Object(
  {
    unit: UnitName,
    version: OrNull(Type.Integer({ description: 'The version of the change on this unit; null before it.' })),
    status: OneOf(ROLLOUT_UNIT_STATUSES, {
      description: 'The state of the unit in the rollout, as in `units` of a rollout.',
    }),
    reason: OrNull(
      Type.String({ description: 'Why the unit was skipped, refused, or could not be reached; else null.' }),
    ),
    attempts: Type.Integer({ description: 'The number of pushes that failed in a row.' }),
    startedAt: OrNull({ ...Instant, description: 'When the rollout changed the unit; null before.' }),
    nextAttemptAt: OrNull({ ...Instant, description: 'When the next push is due; null while none is due.' }),
    appliedAt: OrNull({ ...Instant, description: 'When the unit proved the change; null before.' }),
  },
  { title: 'RolloutUnit' },
);

const EXAMPLE = {
  id: '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55',
  createdAt: '2026-07-01T10:00:00.000Z',
  createdBy: 'ops:me',
  status: 'running',
  statusAt: '2026-07-01T10:00:00.000Z',
  statusBy: 'ops:me',
  statusReason: null,
  selection: { tags: ['station'], state: 'online' },
  changes: { minimumMinutes: 30 },
  waves: [
    { units: 5, waitS: 600 },
    { units: 100, waitS: 60 },
  ],
  abortThreshold: DEFAULT_ABORT_THRESHOLD,
} as const;

const EXAMPLE_WITH_UNITS = {
  ...EXAMPLE,
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
} as const;

export const CREATE_ROLLOUT = operation({
  id: 'createRollout',
  tag: TAG,
  auth: 'ops',
  idempotent: true,
  summary: 'Change the configuration of many units',
  description:
    'The rollout changes the units that the selection names now, one after another at its pace, each like a queued change: values ' +
    'that `changes` does not name stay as they are on the unit. When so many units fail that the threshold is reached, the ' +
    'rollout aborts itself: it changes no further unit, and units that have not proved the change get back what was desired before.',
  body: RolloutBody,
  answers: { 201: answer('The rollout runs.', Rollout, EXAMPLE_WITH_UNITS) },
  problems: ['validation'],
});

export const LIST_ROLLOUTS = operation({
  id: 'listRollouts',
  tag: TAG,
  auth: 'ops',
  summary: 'List the rollouts, the newest first',
  query: Type.Object(PageQuery, strict),
  answers: {
    200: answer(
      'A page of rollouts. `GET /v1/config-rollouts/{id}` counts the units.',
      pageOf(Rollout, 'RolloutPage'),
      {
        items: [EXAMPLE],
        nextCursor: null,
      },
    ),
  },
  problems: ['validation'],
});

export const GET_ROLLOUT = operation({
  id: 'getRollout',
  tag: TAG,
  auth: 'ops',
  summary: 'Show a rollout and its progress',
  params,
  answers: { 200: answer('The rollout.', Rollout, EXAMPLE_WITH_UNITS) },
  problems: ['validation', 'not-found'],
});

export const LIST_ROLLOUT_UNITS = operation({
  id: 'listRolloutUnits',
  tag: TAG,
  auth: 'ops',
  summary: 'List the units of a rollout, in the order in which it changes them',
  params,
  query: Type.Object(
    { status: Type.Optional(OneOf(ROLLOUT_UNIT_STATUSES, { description: 'Only units in this state.' })), ...PageQuery },
    strict,
  ),
  answers: {
    200: answer('A page of units.', pageOf(RolloutUnit, 'RolloutUnitPage'), {
      items: [
        {
          unit: 'PL-1000',
          version: 3,
          status: 'applied',
          reason: null,
          attempts: 0,
          startedAt: '2026-07-01T10:00:00.500Z',
          nextAttemptAt: null,
          appliedAt: '2026-07-01T10:00:00.620Z',
        },
      ],
      nextCursor: null,
    }),
  },
  problems: ['validation', 'not-found'],
});

/** Pausing, resuming and aborting differ in their words alone. */
function actionOperation<const Id extends string>(
  id: Id,
  summary: string,
  description: string,
  status: typeof EXAMPLE.status | 'paused' | 'aborting',
) {
  return operation({
    id,
    tag: TAG,
    auth: 'ops',
    idempotent: true,
    summary,
    description,
    params,
    body: ActionBody,
    answers: { 200: answer('The rollout.', Rollout, { ...EXAMPLE_WITH_UNITS, status }) },
    problems: ['validation', 'not-found', 'precondition-failed'],
  });
}

export const PAUSE_ROLLOUT = actionOperation(
  'pauseRollout',
  'Pause a rollout',
  'The rollout changes no further unit. Changes that are made already are still delivered.',
  'paused',
);
export const RESUME_ROLLOUT = actionOperation(
  'resumeRollout',
  'Resume a paused rollout',
  'The rollout continues at its pace, where it was.',
  'running',
);
export const ABORT_ROLLOUT = actionOperation(
  'abortRollout',
  'Abort a rollout',
  'The rollout changes no further unit. Units that have not proved the change get back what was desired before; the others keep it.',
  'aborting',
);
