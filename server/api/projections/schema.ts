/** Read models over REST: what each route takes and answers. */

import { Type } from '@sinclair/typebox';
import { Instant, UnitName } from '../../../domain/vocabulary.ts';
import { answer, operation } from '../../http/operation.ts';
import { ListQuery, OneOf, OrNull, pageOf, strict } from '../../http/schemas.ts';

const TAG = 'Projections';
const name = Type.String({
  pattern: '^[a-z][a-z0-9_]{0,62}$',
  expects: 'the name of a projection, such as units',
  description: 'The name of the projection.',
  examples: ['units'],
});

const Rebuild = Type.Object(
  {
    runId: Type.Integer({ description: 'The number of the run.' }),
    reason: OneOf(['first', 'version', 'request'], {
      description:
        '`first`: no run serves yet. `version`: the code has a newer version of the projection. `request`: an operator ' +
        'requested it.',
    }),
    status: OneOf(['requested', 'building'], {
      description: '`requested`: no process fills the run yet. `building`: processes fill it.',
    }),
    version: Type.Integer({ description: 'The version of the projection that fills the run.' }),
    requestedBy: OrNull(Type.String({ description: 'The operator who requested it. It is null for other reasons.' })),
    requestedAt: { ...Instant, description: 'When the run was requested.' },
    startedAt: OrNull({ ...Instant, description: 'When a process began to fill it. It is null before.' }),
    position: Type.Integer({ description: 'The position that its lanes have reached on average.' }),
    share: Type.Number({
      minimum: 0,
      maximum: 1,
      description: 'The share of the event store that is applied, from 0 to 1.',
    }),
    events: Type.Integer({ description: 'The number of events that are applied.' }),
    eventsPerSecond: Type.Integer({
      description: 'The number of events applied in a second, on average since the start.',
    }),
    secondsLeft: OrNull(
      Type.Integer({ description: 'The expected time until the run serves, in seconds. It is null when unknown.' }),
    ),
  },
  { title: 'Rebuild' },
);

const Projection = Type.Object(
  {
    name: Type.String({ description: 'The name of the projection.' }),
    version: Type.Integer({ description: 'The version of the run that serves.' }),
    servingSince: OrNull({ ...Instant, description: 'Since when this run serves. It is null while none serves.' }),
    position: Type.Integer({ description: 'The read model shows every commit up to this position.' }),
    lag: Type.Integer({
      description: 'The number of commits in the event store that the read model does not show yet.',
    }),
    parkedUnits: Type.Integer({
      description: 'The number of units with an event that could not be applied. Their later events wait.',
    }),
    rebuild: OrNull({
      ...Rebuild,
      description: 'The run that is filled beside the one that serves. It is null if none is.',
    }),
    lastEnded: OrNull(
      Type.Object(
        {
          status: OneOf(['failed', 'cancelled']),
          because: Type.String({ description: 'Why the run ended.' }),
          at: Instant,
        },
        {
          description: 'The last run that failed or was cancelled, if it is newer than the one that serves; else null.',
        },
      ),
    ),
  },
  { title: 'Projection' },
);

const ParkedUnit = Type.Object(
  {
    unit: UnitName,
    position: Type.Integer({
      description:
        'The position of the commit that could not be applied, or of a later one while a retry runs. It and all later ones of the ' +
        'unit wait.',
    }),
    reason: Type.String({ description: 'Why the commit could not be applied.' }),
    since: { ...Instant, description: 'Since when the unit is parked.' },
    retries: Type.Integer({ description: 'The number of retries that failed.' }),
    retryRequestedAt: OrNull({
      ...Instant,
      description: 'When an operator requested a retry that has not begun; else null.',
    }),
    nextRetryAt: { ...Instant, description: 'When the unit is retried by itself.' },
    retryFault: OrNull(
      Type.String({
        description: 'Why the last retry could not be made, such as a service that was away; null when it was made.',
      }),
    ),
  },
  { title: 'ParkedUnit' },
);

const PROJECTION_EXAMPLE = {
  name: 'units',
  version: 4006,
  servingSince: '2026-06-01T10:00:00.000Z',
  position: 1_000_000,
  lag: 3,
  parkedUnits: 1,
  rebuild: {
    runId: 17,
    reason: 'request',
    status: 'building',
    version: 4006,
    requestedBy: 'ops:me',
    requestedAt: '2026-07-01T10:00:00.000Z',
    startedAt: '2026-07-01T10:00:00.250Z',
    position: 520_000,
    share: 0.52,
    events: 1_040_000,
    eventsPerSecond: 104_000,
    secondsLeft: 10,
  },
  lastEnded: null,
} as const;

const PARKED_EXAMPLE = {
  unit: 'PL-1000',
  position: 998_001,
  reason: 'TypeError: cannot read this',
  since: '2026-07-01T09:12:00.000Z',
  retries: 0,
  retryRequestedAt: null,
  nextRetryAt: '2026-07-01T09:13:00.000Z',
  retryFault: null,
};

export const LIST_PROJECTIONS = operation({
  id: 'listProjections',
  tag: TAG,
  auth: 'ops',
  summary: 'List the read models, how far each is, and rebuilds',
  description:
    'Projections fill the read models from the event store. Each can be rebuilt while it serves: `rebuild` is the run that is ' +
    'filled beside the serving one.',
  answers: {
    200: answer('All read models, by name. There is one page.', pageOf(Projection, 'ProjectionPage'), {
      items: [PROJECTION_EXAMPLE],
      nextCursor: null,
    }),
  },
});

export const REQUEST_REBUILD = operation({
  id: 'rebuildProjection',
  tag: TAG,
  auth: 'ops',
  idempotent: true,
  summary: 'Rebuild a read model',
  description:
    'The projections processes fill a new run from the first event on, while the old one serves. When the new run has caught up ' +
    'in every lane, it replaces the old one in one transaction. A rebuild survives crashes. A request during a rebuild answers ' +
    'with that rebuild. A rebuild writes tables only: it sends no command, timer or message again.',
  params: Type.Object({ name }),
  answers: { 202: answer('The rebuild is requested.', Projection, PROJECTION_EXAMPLE) },
  problems: ['validation', 'not-found'],
});

export const CANCEL_REBUILD = operation({
  id: 'cancelRebuild',
  tag: TAG,
  auth: 'ops',
  idempotent: true,
  summary: 'Cancel a rebuild',
  description:
    'The serving run goes on. A rebuild that a newer version of the code began cannot be cancelled, because the code would begin ' +
    'it again: deploy the former code instead.',
  params: Type.Object({ name }),
  answers: { 200: answer('The rebuild is cancelled.', Projection, { ...PROJECTION_EXAMPLE, rebuild: null }) },
  problems: ['validation', 'not-found', 'precondition-failed'],
});

export const LIST_PARKED_UNITS = operation({
  id: 'listParkedUnits',
  tag: TAG,
  auth: 'ops',
  summary: 'List the parked units of a read model',
  description:
    'A parked unit has an event that the projection could not apply. Its later events wait in this read model; all other units ' +
    'go on. A parked unit is retried by itself, at first after a minute and at last every hour, and by new code when it starts.',
  params: Type.Object({ name }),
  query: Type.Object(ListQuery, strict),
  answers: {
    200: answer('A page of parked units, by name.', pageOf(ParkedUnit, 'ParkedUnitPage'), {
      items: [PARKED_EXAMPLE],
      nextCursor: null,
    }),
  },
  problems: ['validation', 'not-found'],
});

export const RETRY_PARKED_UNIT = operation({
  id: 'retryParkedUnit',
  tag: TAG,
  auth: 'ops',
  idempotent: true,
  summary: 'Retry a parked unit',
  description:
    'The process that fills the lane of the unit begins within moments to apply the waiting events in order, and `position` grows. ' +
    'When all are applied, the unit leaves the list. When an event cannot be applied, `retries` counts up; when a service is away, ' +
    '`retryFault` says so. Either is retried at `nextRetryAt`.',
  params: Type.Object({ name, unit: UnitName }),
  answers: { 202: answer('The retry is requested.', ParkedUnit, PARKED_EXAMPLE) },
  problems: ['validation', 'not-found'],
});
