/** What the event log takes and answers: schemas, examples, errors. */

import { Type } from '@sinclair/typebox';
import { Instant, LockerId, UnitName } from '../../../domain/vocabulary.ts';
import { NDJSON } from '../../http/body.ts';
import { CSV } from '../../http/csv.ts';
import { documented } from '../../http/documented.ts';
import { ListQuery, MinPosition, pageOf } from '../../http/schemas.ts';
import { MAX_TYPES } from './handlers.ts';
import { CSV_EXAMPLE, EVENT_PAGE_EXAMPLE, NDJSON_EXAMPLE, RecordedEvent } from './schema.ts';

const SORTS = ['position', '-position', 'time', '-time'] as const;

export const LIST = {
  query: Type.Object(
    {
      unit: Type.Optional(UnitName),
      locker: Type.Optional(LockerId),
      // Its bounds are checked by `typesOf`: the framework answers 500 when an array in a query is out of bounds.
      type: Type.Optional(
        Type.Array(Type.String(), {
          description: `one of up to ${MAX_TYPES} types: \`type=A&type=B\`, or \`type=A,B\``,
        }),
      ),
      actor: Type.Optional(
        Type.String({
          maxLength: 300,
          description: 'who did it: `customer:ID`, `ops:SUB`, `unit:NAME`, `platform:PART`',
        }),
      ),
      correlation: Type.Optional(Type.String({ maxLength: 300, description: 'the `correlationid` of the event' })),
      from: Type.Optional({ ...Instant, description: 'RFC 3339, UTC: when it occurred, inclusive' }),
      until: Type.Optional({ ...Instant, description: 'RFC 3339, UTC: when it occurred, exclusive' }),
      sort: Type.Optional(
        Type.Union(
          SORTS.map((sort) => Type.Literal(sort)),
          {
            description:
              'by position, which is the order of recording, or by when it occurred; `-` for the newest first. Without it: ' +
              '`-time` when there is `from` or `until`, else `-position`',
          },
        ),
      ),
      ...ListQuery,
      ...MinPosition,
    },
    { additionalProperties: false },
  ),
  detail: documented({
    summary: 'The event log: pages of it, or an export',
    description: [
      '`from`, `until` and `sort=time` mean when an event occurred. `time` is what the clock of the unit said; where that was ' +
        'wrong by more than 2 s, `correctedTime` stands beside it and counts. What claims to have happened more than a day ' +
        'after it was recorded counts under the time of its recording.',
      'A page has up to `limit` items. It costs the same however deep it lies, and looks at a bounded number of events: where ' +
        'a filter lets little through it may be short or empty and still have a `nextCursor`; only `nextCursor: null` is the ' +
        'end. `total` counts up to a million events that have to be looked at; beyond, `totalIsLowerBound` stands beside it.',
      `With \`Accept: ${CSV}\` or \`${NDJSON}\` the answer is all pages as a stream, whatever their number; \`limit\` and ` +
        '`count` are for pages. It has everything that matches and was recorded up to `Lockfleet-Position` (a header), and ' +
        'nothing that is recorded later, so that it ends. Each line has a `cursor`: the same request with the `cursor` of the ' +
        'last whole line answers with the rest of that very export, without a header line, to be put behind what came. An ' +
        'export that fails is cut off without the end that HTTP asks for, which clients report as an error; as NDJSON its ' +
        'last line is then `{"problem": …}`. At most 4 run at a time in a server.',
      'In CSV, `data` is JSON, and a text that a spreadsheet would take for a formula has an apostrophe before it.',
    ].join('\n\n'),
    tag: 'Events',
    answers: {
      200: {
        description: 'A page, or all pages as a stream',
        schema: Type.Composite([
          pageOf(RecordedEvent),
          Type.Object({
            totalIsLowerBound: Type.Optional(Type.Literal(true, { description: 'there are at least `total`' })),
          }),
        ]),
        example: EVENT_PAGE_EXAMPLE,
        others: {
          [CSV]: { schema: Type.String(), example: CSV_EXAMPLE },
          [NDJSON]: { schema: Type.String(), example: NDJSON_EXAMPLE },
        },
      },
    },
    errors: ['validation'],
  }),
};
