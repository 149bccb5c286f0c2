/** What a day looks like over REST. */

import { Type } from '@sinclair/typebox';
import { Money, UnitName } from '../../../domain/vocabulary.ts';

/** Of the calendar; a day that there is not is refused by `dayOf`. */
export const DayParameter = Type.String({ pattern: '^\\d{4}-\\d{2}-\\d{2}$', description: 'a day, YYYY-MM-DD' });

const Ratio = Type.Union([Type.Number(), Type.Null()]);

export const DayView = Type.Object({
  day: Type.String({ format: 'date' }),
  unit: Type.Optional({ ...UnitName, description: 'when one was asked for' }),
  units: Type.Integer({ description: 'that had this day' }),
  isOver: Type.Boolean({ description: 'false: it counts up to `asOf`' }),
  rentals: Type.Integer({ description: 'that began' }),
  revenue: Type.Array(Money, { description: 'payments that went through, by currency' }),
  lockerMinutesRented: Type.Number(),
  lockerMinutesInService: Type.Number(),
  occupancy: { ...Ratio, description: 'the first of these by the second, 0 to 1' },
  minutesOnline: Type.Number(),
  minutes: Type.Number({ description: 'of the day, in which the units belonged to the fleet' }),
  uptime: { ...Ratio, description: 'the first of these by the second, 0 to 1' },
  hardwareErrors: Type.Integer(),
  openFailures: Type.Integer({ description: 'doors that did not open' }),
  conflicts: Type.Integer({ description: 'rentals that took a reserved locker' }),
});

export const DAY_EXAMPLE = {
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
};
