/** Days as the calendar of a time zone has them: of 23, 24 or 25 hours, and now and then one that begins at one o'clock. */

/** Zones and days whose beginning is remembered: to ask for it takes longer than all else in a fold. */
const MAX_REMEMBERED_DAYS = 20_000;

/** `YYYY-MM-DD` */
export type Day = string;

const beginnings = new Map<string, number>();

/** The zone, or UTC for one that this code does not know. */
export function zoneOrUtc(timeZone: string): string {
  try {
    return Temporal.Instant.fromEpochMilliseconds(0).toZonedDateTimeISO(timeZone).timeZoneId;
  } catch {
    return 'UTC';
  }
}

/** Whether it is a day that there is, of the years that Postgres and clients write alike. */
export function isDay(text: string): text is Day {
  try {
    return /^[1-9]\d{3}-\d\d-\d\d$/.test(text) && Temporal.PlainDate.from(text).toString() === text;
  } catch {
    return false;
  }
}

export function dayAt(ms: number, zone: string): Day {
  return Temporal.Instant.fromEpochMilliseconds(ms).toZonedDateTimeISO(zone).toPlainDate().toString();
}

export function nextDay(day: Day): Day {
  return Temporal.PlainDate.from(day).add({ days: 1 }).toString();
}

/** Milliseconds since 1970 of the first moment of a day. */
export function startOfDay(day: Day, zone: string): number {
  const key = `${zone} ${day}`;
  const known = beginnings.get(key);
  if (known !== undefined) return known;
  const ms = Temporal.PlainDate.from(day).toZonedDateTime(zone).epochMilliseconds;
  if (beginnings.size >= MAX_REMEMBERED_DAYS) beginnings.clear();
  beginnings.set(key, ms);
  return ms;
}
