/** What an event of the log looks like over REST. */

import { Type } from '@sinclair/typebox';
import { Instant } from '../../../domain/vocabulary.ts';

export const RecordedEvent = Type.Object(
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

export const EVENT_PAGE_EXAMPLE = {
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

export const CSV_EXAMPLE =
  'position,recordedAt,time,correctedTime,type,unit,locker,id,source,subject,dataschema,actor,correlationid,causationid,' +
  'unitepoch,unitseq,offline,clockoffsetms,unitextra,data,cursor\r\n' +
  '1234.0,2026-07-01T10:00:01.120Z,2026-07-01T10:00:00.010Z,,LockerOpened,PL-1000,B,' +
  'PL-1000/0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55/17,/lockfleet/units/PL-1000,PL-1000/B,LockerOpened/1,unit:PL-1000,,' +
  '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e56,0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55,17,,,,' +
  '"{""cause"":""command""}",WyItcG9zaXRpb24iLDE3ODI5\r\n';

export const NDJSON_EXAMPLE =
  '{"position":"1234.0","recordedAt":"2026-07-01T10:00:01.120Z","specversion":"1.0",' +
  '"id":"PL-1000/0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55/17","source":"/lockfleet/units/PL-1000","type":"LockerOpened",' +
  '"subject":"PL-1000/B","time":"2026-07-01T10:00:00.010Z","dataschema":"LockerOpened/1","data":{"cause":"command"},' +
  '"actor":"unit:PL-1000","cursor":"WyItcG9zaXRpb24iLDE3ODI5"}\n';
