import { Type } from '@sinclair/typebox';
import { Instant, UnitName } from '../../../domain/vocabulary.ts';

const OptionalInstant = Type.Union([Instant, Type.Null()]);
const oneOf = (values: readonly string[], description?: string) =>
  Type.Union(
    values.map((value) => Type.Literal(value)),
    description === undefined ? {} : { description },
  );

const RebuildView = Type.Object({
  runId: Type.Integer(),
  reason: oneOf(
    ['first', 'version', 'request'],
    'nothing serves yet, the code has a newer version, or somebody asked for it',
  ),
  status: oneOf(['requested', 'building'], '`requested`: no process has taken it up yet'),
  version: Type.Integer(),
  requestedBy: Type.Union([Type.String(), Type.Null()]),
  requestedAt: Instant,
  startedAt: OptionalInstant,
  position: Type.Integer({ description: 'where its lanes are, on average' }),
  share: Type.Number({ description: 'of the store, 0 to 1' }),
  events: Type.Integer({ description: 'events that were applied' }),
  eventsPerSecond: Type.Integer({ description: 'on average since it began' }),
  secondsLeft: Type.Union([Type.Integer(), Type.Null()]),
});

export const ProjectionView = Type.Object({
  name: Type.String(),
  version: Type.Integer(),
  servingSince: OptionalInstant,
  position: Type.Integer({ description: 'everything up to here is shown' }),
  lag: Type.Integer({ description: 'commits of the store that are not shown yet' }),
  parkedUnits: Type.Integer({ description: 'units that wait because of an event that could not be applied' }),
  rebuild: Type.Union([RebuildView, Type.Null()]),
  lastEnded: Type.Union(
    [Type.Object({ status: oneOf(['failed', 'cancelled']), because: Type.String(), at: Instant }), Type.Null()],
    { description: 'the last run that failed or was cancelled, if it is newer than the one that serves' },
  ),
});

export const ParkedUnitView = Type.Object({
  unit: UnitName,
  position: Type.Integer({
    description: 'the commit that could not be applied; it and all later ones of the unit wait',
  }),
  reason: Type.String(),
  since: Instant,
  retries: Type.Integer({ description: 'how often it was tried again in vain' }),
  retryRequestedAt: OptionalInstant,
});

const REBUILD = {
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
};

export const PROJECTION_EXAMPLE = {
  name: 'units',
  version: 4006,
  servingSince: '2026-06-01T10:00:00.000Z',
  position: 1_000_000,
  lag: 3,
  parkedUnits: 1,
  rebuild: REBUILD,
  lastEnded: null,
};

export const PARKED_EXAMPLE = {
  unit: 'PL-1000',
  position: 998_001,
  reason: 'TypeError: cannot read this',
  since: '2026-07-01T09:12:00.000Z',
  retries: 0,
  retryRequestedAt: null,
};
