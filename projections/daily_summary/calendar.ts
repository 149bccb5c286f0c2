/**
 * Days as the calendar of a time zone defines them: a day has 23, 24 or 25 hours, and some days begin at 01:00. `Temporal` and
 * not Postgres computes them, so that the projection and the queries use one version of the time zone database.
 */

import { LRUCache } from 'lru-cache';

/** Each entry takes less than 200 bytes. */
const MAX_CACHED_DAYS = 20_000;

/** `YYYY-MM-DD` */
export type Day = string;

/** @returns the canonical id of the zone; UTC for a zone that this runtime does not know */
export function zoneOrUtc(timeZone: string): string {
  try {
    return Temporal.Instant.fromEpochMilliseconds(0).toZonedDateTimeISO(timeZone).timeZoneId;
  } catch {
    return 'UTC';
  }
}

/** Whether a text is a day that exists, in a year that Postgres and clients write alike (1000 to 9999). */
export function isDay(text: string): text is Day {
  try {
    return /^[1-9]\d{3}-\d\d-\d\d$/.test(text) && Temporal.PlainDate.from(text).toString() === text;
  } catch {
    return false;
  }
}

/** The day in a zone at a moment, milliseconds since 1970. */
export function dayAt(ms: number, zone: string): Day {
  return Temporal.Instant.fromEpochMilliseconds(ms).toZonedDateTimeISO(zone).toPlainDate().toString();
}

export function nextDay(day: Day): Day {
  return Temporal.PlainDate.from(day).add({ days: 1 }).toString();
}

/** Computes when days start, with a cache: the computation would take longer than the rest of a fold. */
export class Calendar {
  readonly #startsMs = new LRUCache<string, number>({ max: MAX_CACHED_DAYS });

  /** The first moment of a day in a zone, milliseconds since 1970. */
  startOfDay(day: Day, zone: string): number {
    const key = `${zone} ${day}`;
    const cached = this.#startsMs.get(key);
    if (cached !== undefined) return cached;
    const ms = Temporal.PlainDate.from(day).toZonedDateTime(zone).epochMilliseconds;
    this.#startsMs.set(key, ms);
    return ms;
  }
}
