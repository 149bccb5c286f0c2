/** Opening hours of a unit. They are times of day on the wall clock of the unit's time zone, so summer time moves them with the clock. */

import type { ConfigurationValues } from '../configuration-values.ts';
import type { Period } from '../period.ts';
import { Refusal } from '../refusal.ts';
import { toInstant } from '../vocabulary.ts';

export type OpeningHours = ConfigurationValues['openingHours'];

/** The configuration values that say when a period may begin and end. */
export type OpeningRules = Pick<ConfigurationValues, 'openingHours' | 'rentalsMayEndOutsideHours'>;

const WEEKDAYS = ['Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'];

/** Whether the unit is open at an instant. Without opening hours it always is. `timeZone` is a name of the IANA database. */
export function isOpenAt(hours: OpeningHours, timeZone: string, atMs: number): boolean {
  if (hours.length === 0) return true;
  const { weekday, time } = wallClock(timeZone, atMs);
  return hours.some((day) => day.weekday === weekday && day.opens <= time && time < day.closes);
}

/**
 * The first end of a period that lies outside of the opening hours. A period may end at the very moment at which the unit closes.
 * The period between may span a night: the locker keeps the belongings while the unit is closed.
 */
export function closedEndOf(
  { openingHours, rentalsMayEndOutsideHours = false }: OpeningRules,
  timeZone: string,
  { fromMs, untilMs }: Period,
): 'from' | 'until' | undefined {
  if (!isOpenAt(openingHours, timeZone, fromMs)) return 'from';
  if (!rentalsMayEndOutsideHours && !isOpenAt(openingHours, timeZone, untilMs - 1)) return 'until';
  return undefined;
}

/** Which end of a period lies outside of the opening hours, and a sentence that names the hours of that day. */
export function closedAt(
  rules: OpeningRules,
  timeZone: string,
  period: Period,
): { readonly end: 'from' | 'until'; readonly detail: string } | undefined {
  const end = closedEndOf(rules, timeZone, period);
  if (end === undefined) return undefined;
  const atMs = end === 'from' ? period.fromMs : period.untilMs;
  const hours = describeHours(rules.openingHours, timeZone, end === 'from' ? atMs : atMs - 1);
  return { end, detail: `The unit is closed at ${toInstant(atMs)}. ${hours}` };
}

/** @throws Refusal `closed`, which names the opening hours of the day */
export function requireOpen(rules: OpeningRules, timeZone: string, period: Period): void {
  const closed = closedAt(rules, timeZone, period);
  if (closed === undefined) return;
  throw new Refusal('closed', closed.detail, [
    { path: `/${closed.end}`, message: 'lies outside of the opening hours' },
  ]);
}

/** The opening hours of the day on which an instant lies, as a sentence. */
function describeHours(hours: OpeningHours, timeZone: string, atMs: number): string {
  const { weekday } = wallClock(timeZone, atMs);
  const name = WEEKDAYS[weekday - 1];
  const ofDay = hours.filter((day) => day.weekday === weekday).toSorted((a, b) => (a.opens < b.opens ? -1 : 1));
  if (ofDay.length === 0) return `It does not open on ${name} (${timeZone}).`;
  return `It is open on ${name} from ${ofDay.map(({ opens, closes }) => `${opens} to ${closes}`).join(' and from ')} (${timeZone}).`;
}

function wallClock(timeZone: string, atMs: number): { readonly weekday: number; readonly time: string } {
  const local = Temporal.Instant.fromEpochMilliseconds(atMs).toZonedDateTimeISO(timeZone);
  return { weekday: local.dayOfWeek, time: local.toPlainTime().toString({ smallestUnit: 'minute' }) };
}
