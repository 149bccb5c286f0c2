/** The pingers over REST: what the route answers. */

import { Type } from '@sinclair/typebox';
import { Instant } from '../../../domain/vocabulary.ts';
import { PingerStatus } from '../../../platform/liveness/pinger-status.ts';
import { answer, operation } from '../../http/operation.ts';

const Counts = (description: string) => Type.Record(Type.String(), Type.Number(), { description });
const { at: _, ...status } = PingerStatus.properties;

const Pingers = Type.Object(
  {
    owners: Type.Array(Type.Object({ ...status, at: Instant }), { description: 'The pingers that run now.' }),
    unwatched: Type.Array(Type.String(), {
      description:
        'Two-letter shards that no pinger has watched for three of its intervals. Their units are `unknown`.',
    }),
    outages: Type.Array(Type.Object({ shard: Type.String(), since: Instant }), {
      description:
        'Shards in which so many units stopped to answer at once that a fault of the platform’s own network is likely. Their ' +
        'missing units are `unknown`.',
    }),
    states: Counts('The number of units in use in each state.'),
    flapping: Type.Integer({ description: 'The number of units that went offline and came back repeatedly.' }),
    scheduleLagMs: Type.Object(
      { p99: Type.Number(), max: Type.Number() },
      {
        description:
          'By how many milliseconds pings were sent after their instants in the last half minute, at the pinger with the ' +
          'largest lag.',
      },
    ),
    rates: Counts('What the pingers count, for each second of the last half minute, added over all pingers.'),
  },
  { title: 'Pingers' },
);

export const GET_PINGERS = operation({
  id: 'getPingers',
  tag: 'Units',
  auth: 'ops',
  summary: 'Show which pingers watch the units, how punctual they are, and the states of units',
  description:
    'Every pinger publishes its status once in an interval. A shard that no pinger named for three intervals is not watched.',
  answers: {
    200: answer('The pingers that run now.', Pingers, {
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
    }),
  },
});
