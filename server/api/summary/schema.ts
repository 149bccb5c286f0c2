/** The daily summary over REST: what the route takes and answers. */

import { Type } from '@sinclair/typebox';
import { Instant, Money, UnitName } from '../../../domain/vocabulary.ts';
import { CSV } from '../../http/csv.ts';
import { answer, operation } from '../../http/operation.ts';
import { MinPosition, OrNull, PageQuery, pageOf, strict } from '../../http/schemas.ts';

/** A day of the calendar. The service refuses a day that does not exist, such as 30 February. */
const Day = Type.String({
  pattern: '^\\d{4}-\\d{2}-\\d{2}$',
  expects: 'a day, such as 2026-07-01',
});

const DaySummary = Type.Object(
  {
    day: Type.String({ format: 'date', description: 'The day in the calendar of the unit, YYYY-MM-DD.' }),
    unit: Type.Optional({ ...UnitName, description: 'The unit, when the request names one.' }),
    units: Type.Integer({ description: 'The number of units that were registered on this day.' }),
    isOver: Type.Boolean({ description: 'Whether the day has ended. If not, its figures count up to `asOf`.' }),
    rentals: Type.Integer({ description: 'The number of rentals that began on this day.' }),
    revenue: Type.Array(Money, { description: 'The sum of successful payments, for each currency.' }),
    lockerMinutesRented: Type.Number({ description: 'Minutes for which lockers were rented, added over all lockers.' }),
    lockerMinutesInService: Type.Number({
      description: 'Minutes for which lockers were in service, added over all lockers.',
    }),
    occupancy: OrNull(
      Type.Number({
        minimum: 0,
        description:
          'The share of the time in service for which lockers were rented: `lockerMinutesRented` divided by ' +
          '`lockerMinutesInService`, from 0 to 1. It is null when no locker was in service.',
      }),
    ),
    minutesOnline: Type.Number({ description: 'Minutes for which units were online, added over all units.' }),
    minutes: Type.Number({ description: 'Minutes of this day for which units were registered, added over all units.' }),
    uptime: OrNull(
      Type.Number({
        minimum: 0,
        description:
          'The share of the day for which units were online: `minutesOnline` divided by `minutes`, from 0 to 1. It is null ' +
          'when no unit was registered.',
      }),
    ),
    hardwareErrors: Type.Integer({ description: 'The number of hardware errors that units raised.' }),
    openFailures: Type.Integer({ description: 'The number of doors that did not open.' }),
    conflicts: Type.Integer({ description: 'The number of walk-up rentals that took a reserved locker.' }),
  },
  { title: 'DaySummary' },
);

const DaySummaries = Type.Object(
  { ...pageOf(DaySummary).properties, asOf: { ...Instant, description: 'The time of the answer.' } },
  { title: 'DaySummaries' },
);

export const LIST_DAYS = operation({
  id: 'listDailySummaries',
  tag: 'Summary',
  auth: 'ops',
  minPosition: { readModel: 'daily_summary' },
  summary: 'List the figures of each day, of a unit or of the fleet',
  description: [
    'A day is one of the calendar in the time zone of the unit, of 23 or 25 hours where clocks change. Without `unit`, the ' +
      'figures of all units are added, each by its own calendar. The earliest day comes first; a page covers `limit` days and ' +
      'leaves out days on which no unit was registered.',
    'An event counts for the day on which it occurred. Events that arrive late correct past days, up to 400 days back. A rental ' +
      'or an online time that has not ended counts up to `asOf`. A unit is online from the first proof that it answers until the ' +
      'platform calls it offline.',
    'A payment counts once, whether the app or the unit reported it: payments with the same reference, or for the same ' +
      'reservation, are one.',
    `With \`Accept: ${CSV}\`, the answer is a stream of all days, with \`revenue\` as JSON.`,
  ].join('\n\n'),
  query: Type.Object(
    {
      unit: Type.Optional({ ...UnitName, description: 'Only this unit.' }),
      from: Type.Optional({ ...Day, description: 'The first day, inclusive: YYYY-MM-DD.' }),
      until: Type.Optional({ ...Day, description: 'The last day, exclusive: YYYY-MM-DD.' }),
      ...PageQuery,
      ...MinPosition,
    },
    strict,
  ),
  answers: {
    200: {
      ...answer('A page of days, or a stream of all days.', DaySummaries, {
        asOf: '2026-07-02T10:00:00.000Z',
        items: [
          {
            day: '2026-07-01',
            unit: 'PL-1000',
            units: 1,
            isOver: true,
            rentals: 14,
            revenue: [{ amount: 12_600, currency: 'PLN' }],
            lockerMinutesRented: 2_880.5,
            lockerMinutesInService: 11_520,
            occupancy: 0.25,
            minutesOnline: 1_431.75,
            minutes: 1_440,
            uptime: 0.9943,
            hardwareErrors: 0,
            openFailures: 1,
            conflicts: 0,
          },
        ],
        nextCursor: null,
      }),
      alternatives: { [CSV]: { schema: Type.String(), example: 'day,unit,units,…\r\n2026-07-01,PL-1000,1,…\r\n' } },
    },
  },
  problems: ['validation'],
});
