/** What the daily summary takes and answers: schemas, examples, errors. */

import { Type } from '@sinclair/typebox';
import { Instant, UnitName } from '../../../domain/vocabulary.ts';
import { CSV } from '../../http/csv.ts';
import { documented } from '../../http/documented.ts';
import { ListQuery, MinPosition, pageOf } from '../../http/schemas.ts';
import { DAY_EXAMPLE, DayParameter, DayView } from './schema.ts';

const { limit, cursor } = ListQuery;

export const LIST = {
  query: Type.Object(
    {
      unit: Type.Optional(UnitName),
      from: Type.Optional({ ...DayParameter, description: 'a day, YYYY-MM-DD, inclusive' }),
      until: Type.Optional({ ...DayParameter, description: 'a day, YYYY-MM-DD, exclusive' }),
      limit,
      cursor,
      ...MinPosition,
    },
    { additionalProperties: false },
  ),
  detail: documented({
    summary: 'What a unit, or the fleet, did day by day',
    description: [
      'A day is one of the calendar in the time zone of the unit, of 23 or 25 hours where clocks are set. Without `unit`, the ' +
        'days of all units together, each by its own calendar. The earliest day comes first; a page covers `limit` days and ' +
        'leaves out those on which there was no unit.',
      'What happened counts when it occurred: events that arrive late correct past days, up to 400 days back. What goes on (a ' +
        'rental, being online) counts up to `asOf`; `isOver` says whether the day has ended. A unit is online from the first ' +
        'proof until it is called offline.',
      'A payment counts once, whoever told of it: by its reference, and by its reservation where one is named.',
      `With \`Accept: ${CSV}\` all days come as a stream, with \`revenue\` as JSON.`,
    ].join('\n\n'),
    tag: 'Summary',
    answers: {
      200: {
        description: 'A page, or all days as a stream',
        schema: Type.Composite([pageOf(DayView), Type.Object({ asOf: Instant })]),
        example: { asOf: '2026-07-02T10:00:00.000Z', items: [DAY_EXAMPLE], nextCursor: null },
        others: { [CSV]: { schema: Type.String(), example: 'day,unit,units,…\r\n2026-07-01,PL-1000,1,…\r\n' } },
      },
    },
    errors: ['validation'],
  }),
};
