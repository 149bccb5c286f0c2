import { Type } from '@sinclair/typebox';
import { Elysia } from 'elysia';
import { Instant, LockerId, UnitName } from '../../domain/vocabulary.ts';
import type { Sql } from '../../platform/postgres/connection.ts';
import { listEvents } from '../../projections/event_log/queries.ts';
import type { Guard } from '../auth/guard.ts';
import { documented } from '../http/documented.ts';
import { DEFAULT_LIMIT, ListQuery, MinPosition, pageOf, type Reads } from '../http/reads.ts';

const RecordedEvent = Type.Object(
  {
    position: Type.String({ examples: ['1234.0'] }),
    recordedAt: Instant,
    specversion: Type.Literal('1.0'),
    id: Type.String(),
    source: Type.String(),
    type: Type.String(),
    subject: Type.String(),
    time: Instant,
    dataschema: Type.String(),
    data: Type.Object({}, { additionalProperties: true }),
    clockoffsetms: Type.Optional(
      Type.Integer({
        description: 'by how much the unit’s clock was ahead; it stands only where that was more than 2 s',
      }),
    ),
    correctedTime: Type.Optional({ ...Instant, description: '`time` without that offset' }),
  },
  { additionalProperties: true, description: 'a CloudEvent as stored, with where and when it was recorded' },
);

const EXAMPLE = {
  items: [
    {
      position: '1234.0',
      recordedAt: '2026-07-01T10:00:01.120Z',
      specversion: '1.0',
      id: 'PL-1000/0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55/17',
      source: '/lockfleet/units/PL-1000',
      type: 'LockerOpened',
      subject: 'PL-1000/B',
      time: '2026-07-01T10:00:00.010Z',
      dataschema: 'LockerOpened/1',
      data: { cause: 'command', commandId: '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e56' },
      actor: 'unit:PL-1000',
      causationid: '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e56',
      unitepoch: '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55',
      unitseq: 17,
    },
    {
      position: '1201.0',
      recordedAt: '2026-07-01T09:58:00.400Z',
      specversion: '1.0',
      id: 'PL-1007/0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1f02/5',
      source: '/lockfleet/units/PL-1007',
      type: 'LockerClosed',
      subject: 'PL-1007/A',
      time: '2026-07-01T10:57:59.900Z',
      dataschema: 'LockerClosed/1',
      data: {},
      actor: 'unit:PL-1007',
      unitepoch: '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1f02',
      unitseq: 5,
      clockoffsetms: 3_600_000,
      correctedTime: '2026-07-01T09:57:59.900Z',
    },
  ],
  nextCursor: null,
};

export interface EventDependencies {
  readonly guard: Guard;
  readonly reads: Reads;
  readonly sql: Sql;
}

export function eventRoutes({ guard, reads, sql }: EventDependencies) {
  return new Elysia({ prefix: '/v1/events' })
    .derive(async ({ headers }) => ({ principal: await guard.require(headers.authorization, 'ops') }))
    .get(
      '',
      async ({ query }) => {
        const { minPosition, limit = DEFAULT_LIMIT, ...filter } = query;
        await reads.wait('event_log', minPosition, filter.unit);
        return listEvents(sql, { ...filter, limit });
      },
      {
        query: Type.Object(
          {
            unit: Type.Optional(UnitName),
            locker: Type.Optional(LockerId),
            type: Type.Optional(Type.String({ maxLength: 100 })),
            from: Type.Optional(Instant),
            until: Type.Optional(Instant),
            ...ListQuery,
            ...MinPosition,
          },
          { additionalProperties: false },
        ),
        detail: documented({
          summary: 'The event log, newest first',
          description:
            '`from` and `until` mean when an event occurred; the order is that in which they were recorded. `time` is what the clock of the unit said. Where that was wrong by more than 2 s, `correctedTime` stands beside it, and counts for `from` and `until`.',
          tag: 'Events',
          answers: {
            200: {
              description: 'A page',
              schema: pageOf(RecordedEvent),
              example: EXAMPLE,
            },
          },
          errors: ['validation'],
        }),
      },
    );
}
