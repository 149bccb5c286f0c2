/** The event log over REST: what the route takes and answers. */

import { Type } from '@sinclair/typebox';
import { Instant, LockerId, UnitName } from '../../../domain/vocabulary.ts';
import { CSV } from '../../http/csv.ts';
import { answer, operation } from '../../http/operation.ts';
import { NDJSON } from '../../http/request-body.ts';
import { ListQuery, MinPosition, OneOf, pageOf, strict } from '../../http/schemas.ts';

/** Event types that one request may filter by. */
export const MAX_TYPES = 20;

const RecordedEvent = Type.Object(
  {
    position: Type.String({
      description: 'The position of the event: the sequence of its commit, and its index in the commit.',
      examples: ['1234.0'],
    }),
    recordedAt: { ...Instant, description: 'When the event store recorded it.' },
    specversion: Type.Literal('1.0'),
    id: Type.String({ description: 'A UUIDv7, or `UNIT/EPOCH/SEQ` for an event that a unit reported.' }),
    source: Type.String(),
    type: Type.String({ description: 'The event type, as listed at `/asyncapi`.' }),
    subject: Type.String({ description: 'The unit, or the unit and the locker: `UNIT/LOCKER`.' }),
    time: { ...Instant, description: 'When it occurred, by the clock of its source.' },
    dataschema: Type.String({ description: 'The type and the version of its schema: `TYPE/VERSION`.' }),
    data: Type.Object({}, { additionalProperties: true, description: 'The facts, as the schema of the type says.' }),
    clockoffsetms: Type.Optional(
      Type.Integer({
        description:
          'By how many milliseconds the clock of the unit was ahead of the platform’s. The field is present where that was more ' +
          'than 2 s.',
      }),
    ),
    correctedTime: Type.Optional({ ...Instant, description: '`time` without the clock offset.' }),
  },
  {
    additionalProperties: true,
    title: 'RecordedEvent',
    description: 'A CloudEvent as it is stored, with its position and the time of its recording.',
  },
);

const Events = Type.Object(
  {
    ...pageOf(RecordedEvent).properties,
    totalIsLowerBound: Type.Optional(
      Type.Literal(true, {
        description: 'More events match than `total`: counting ended at a million examined events.',
      }),
    ),
  },
  { title: 'RecordedEvents' },
);

const EVENT_PAGE_EXAMPLE = {
  items: [
    {
      position: '1234.0',
      recordedAt: '2026-07-01T10:00:01.120Z',
      specversion: '1.0' as const,
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
      specversion: '1.0' as const,
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

const CSV_EXAMPLE =
  'position,recordedAt,time,correctedTime,type,unit,locker,id,source,subject,dataschema,actor,correlationid,causationid,' +
  'unitepoch,unitseq,offline,clockoffsetms,unitextra,data,cursor\r\n' +
  '1234.0,2026-07-01T10:00:01.120Z,2026-07-01T10:00:00.010Z,,LockerOpened,PL-1000,B,' +
  'PL-1000/0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55/17,/lockfleet/units/PL-1000,PL-1000/B,LockerOpened/1,unit:PL-1000,,' +
  '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e56,0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55,17,,,,' +
  '"{""cause"":""command""}",WyItcG9zaXRpb24iLDE3ODI5\r\n';

const NDJSON_EXAMPLE =
  '{"position":"1234.0","recordedAt":"2026-07-01T10:00:01.120Z","specversion":"1.0",' +
  '"id":"PL-1000/0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55/17","source":"/lockfleet/units/PL-1000","type":"LockerOpened",' +
  '"subject":"PL-1000/B","time":"2026-07-01T10:00:00.010Z","dataschema":"LockerOpened/1","data":{"cause":"command"},' +
  '"actor":"unit:PL-1000","cursor":"WyItcG9zaXRpb24iLDE3ODI5"}\n';

export const LIST_EVENTS = operation({
  id: 'listEvents',
  tag: 'Events',
  auth: 'ops',
  minPosition: { readModel: 'event_log' },
  summary: 'List events, or export them',
  description: [
    '`from`, `until` and `sort=time` refer to the time at which an event occurred. `time` is what the clock of the unit said. Where ' +
      'that clock was wrong by more than 2 s, `correctedTime` is present and counts. An event that claims to have occurred more ' +
      'than a day after it was recorded counts under the time of its recording.',
    'A page has up to `limit` items. It costs the same however deep it lies, because it examines a bounded number of events: with a ' +
      'filter that matches little, a page may be short or empty and still have a `nextCursor`. Only `nextCursor: null` ends the list.',
    `With \`Accept: ${CSV}\` or \`${NDJSON}\` the answer is a stream of all pages; \`limit\` and \`count\` have no effect. The export ` +
      'holds every matching event up to the position in the header `Lockfleet-Position`, and none that is recorded later. Each line ' +
      'has a `cursor`: the same request with the `cursor` of the last whole line answers with the rest of that export, without a ' +
      'header line, to be appended to what arrived. An export that fails is cut off without the last chunk, which HTTP clients ' +
      'report as an error; the last line of an NDJSON export is then `{"problem": …}`. A server runs at most 4 exports at a time.',
    'In CSV, `data` is JSON, and a text that a spreadsheet would take for a formula is preceded by an apostrophe.',
  ].join('\n\n'),
  query: Type.Object(
    {
      unit: Type.Optional({ ...UnitName, description: 'Only events of this unit.' }),
      locker: Type.Optional({ ...LockerId, description: 'Only events of this locker.' }),
      // `requireTypes` checks the bounds: Elysia answers 500 when an array in a query is out of bounds.
      type: Type.Optional(
        Type.Array(Type.String(), {
          description: `Only events of these types, at most ${MAX_TYPES}: \`type=A&type=B\`, or \`type=A,B\`.`,
        }),
      ),
      actor: Type.Optional(
        Type.String({
          maxLength: 300,
          description: 'Only events by this actor: `customer:ID`, `ops:SUB`, `unit:NAME` or `platform:PART`.',
        }),
      ),
      correlation: Type.Optional(
        Type.String({
          maxLength: 300,
          description: 'Only events with this `correlationid`, such as those of a rollout.',
        }),
      ),
      from: Type.Optional({
        ...Instant,
        description: 'Only events that occurred at this time or later: RFC 3339, UTC.',
      }),
      until: Type.Optional({ ...Instant, description: 'Only events that occurred before this time: RFC 3339, UTC.' }),
      sort: Type.Optional(
        OneOf(['position', '-position', 'time', '-time'], {
          description:
            'By position, which is the order of recording, or by the time of occurrence; with `-`, the newest event first. The ' +
            'default is `-time` with `from` or `until`, and else `-position`.',
        }),
      ),
      ...ListQuery,
      ...MinPosition,
    },
    strict,
  ),
  answers: {
    200: {
      ...answer('A page of events, or a stream of all pages.', Events, EVENT_PAGE_EXAMPLE),
      alternatives: {
        [CSV]: { schema: Type.String(), example: CSV_EXAMPLE },
        [NDJSON]: { schema: Type.String(), example: NDJSON_EXAMPLE },
      },
    },
  },
  problems: ['validation'],
});
