import { Type } from '@sinclair/typebox';
import { Elysia } from 'elysia';
import { Instant } from '../../../domain/vocabulary.ts';
import { PingerStatus } from '../../../platform/liveness/pinger-status.ts';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import { activePingers } from '../../../projections/telemetry/queries.ts';
import { stateCounts } from '../../../projections/units/queries.ts';
import { documented } from '../../http/documented.ts';
import type { Authenticator } from '../auth/authenticator.ts';

const Counts = (description: string) => Type.Record(Type.String(), Type.Number(), { description });
const { at: _, ...said } = PingerStatus.properties;

const Pingers = Type.Object({
  owners: Type.Array(Type.Object({ ...said, at: Instant }), { description: 'the pingers that watch now' }),
  unwatched: Type.Array(Type.String(), { description: 'two-letter shards that nobody watches' }),
  outages: Type.Array(Type.Object({ shard: Type.String(), since: Instant }), {
    description: 'shards of which too many units vanished at once for it to be them',
  }),
  states: Counts('units in use, by the state that is shown of them'),
  flapping: Type.Integer({ description: 'units that go offline and come back too often to be believed at once' }),
  scheduleLagMs: Type.Object(
    { p99: Type.Number(), max: Type.Number() },
    { description: 'by how much pings left after their instants in the last half minute, at the worst pinger' },
  ),
  rates: Counts('per second, over the last half minute, of all pingers'),
});

const EXAMPLE = {
  owners: [
    {
      pingerId: '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55',
      at: '2026-07-01T10:00:00.000Z',
      periodMs: 10_000,
      shards: ['00', '01'],
      intervalMs: 10_000,
      timeoutMs: 2_000,
      failuresToOffline: 3,
      units: 50,
      notPinged: 0,
      states: { unknown: 0, 'never-seen': 1, online: 48, offline: 1 },
      flapping: 0,
      scheduleLagMs: { p99: 1.2, max: 3.4 },
      rates: { pings: 5.1, answered: 4.9, missed: 0.2 },
      totals: { pings: 1_000, answered: 980, missed: 20 },
      threads: 2,
      replacedThreads: 0,
      outages: [],
    },
  ],
  unwatched: [],
  outages: [],
  states: { online: 48, offline: 1, 'never-seen': 1 },
  flapping: 0,
  scheduleLagMs: { p99: 1.2, max: 3.4 },
  rates: { pings: 5.1, answered: 4.9, missed: 0.2 },
};

export interface PingerRouteDependencies {
  readonly authenticator: Authenticator;
  readonly readModels: ReadModels;
}

export function pingerRoutes({ authenticator, readModels }: PingerRouteDependencies) {
  return new Elysia({ prefix: '/v1/pinger' })
    .derive(async ({ headers }) => ({ principal: await authenticator.authenticate(headers.authorization, 'ops') }))
    .get(
      '',
      async () => {
        const [{ owners, unwatched, outages }, states] = await Promise.all([
          activePingers(readModels.sql),
          stateCounts(readModels),
        ]);
        return {
          owners: owners.map((owner) => ({ ...owner, at: new Date(owner.at).toISOString() })),
          unwatched,
          outages,
          states,
          flapping: owners.reduce((sum, { flapping }) => sum + flapping, 0),
          scheduleLagMs: {
            p99: Math.max(0, ...owners.map(({ scheduleLagMs }) => scheduleLagMs.p99)),
            max: Math.max(0, ...owners.map(({ scheduleLagMs }) => scheduleLagMs.max)),
          },
          rates: sumOf(owners.map(({ rates }) => rates)),
        };
      },
      {
        detail: documented({
          summary: 'Who watches the units, how punctual, and what state they are in',
          description:
            'Every pinger speaks once in an interval. Shards of which none has spoken for three intervals are not watched: ' +
            'their units are `unknown`.',
          tag: 'Units',
          answers: { 200: { description: 'The pingers that watch now', schema: Pingers, example: EXAMPLE } },
        }),
      },
    );
}

function sumOf(all: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const figures of all)
    for (const [name, value] of Object.entries(figures)) sums[name] = (sums[name] ?? 0) + value;
  return sums;
}
