/**
 * Clocks of units. A unit stamps what happens with its own clock, which may be wrong; the platform measures by how much, and
 * the events of a unit whose clock is wrong carry the offset that held when they were recorded. So both times are in the
 * log: what the unit said, and what follows from it here.
 */

import type { CloudEvent } from '../events/cloud-event.ts';
import { toInstant, toMs } from '../vocabulary.ts';

/** A clock that is off by more than this is wrong. */
export const CLOCK_OFFSET_TOLERANCE_MS = 2_000;

/** What can be written as a year of four digits. */
const EARLIEST_MS = Date.parse('0000-01-01T00:00:00.000Z');
const LATEST_MS = Date.parse('9999-12-31T23:59:59.999Z');

export type ClockStamp = Pick<CloudEvent, 'time' | 'clockoffsetms'>;

/** By how many milliseconds a unit's clock is ahead; `undefined` when `unitTime` is no time. `atMs`: the moment it was read. */
export function clockOffsetMs(unitTime: string, atMs: number): number | undefined {
  const offsetMs = Math.round(toMs(unitTime) - atMs);
  return Number.isSafeInteger(offsetMs) ? offsetMs : undefined;
}

/**
 * The same from the answer to a ping, whose clock was read between the sending and the arrival; `undefined` when that is too
 * far apart to tell a wrong clock from a slow answer. `unitTimeMs`: milliseconds since 1970, NaN when it is no time.
 */
export function clockOffsetFromPingMs(unitTimeMs: number, sentAtMs: number, rttMs: number): number | undefined {
  if (rttMs / 2 > CLOCK_OFFSET_TOLERANCE_MS) return undefined;
  const offsetMs = Math.round(unitTimeMs - sentAtMs - rttMs / 2);
  return Number.isSafeInteger(offsetMs) ? offsetMs : undefined;
}

export function isClockWrong(offsetMs: number): boolean {
  return Math.abs(offsetMs) > CLOCK_OFFSET_TOLERANCE_MS;
}

/**
 * When an event occurred, RFC 3339: its time without the offset of the clock that told it. A time that is none stays as it
 * is, and so does one that the correction would move to where no year is.
 */
export function occurredAt(event: ClockStamp): string {
  return correctedInstant(event.time, event);
}

/** Another time that the same clock told in an event, as `occurredAt` corrects its own. */
export function correctedInstant(instant: string, { clockoffsetms }: Pick<ClockStamp, 'clockoffsetms'>): string {
  if (clockoffsetms === undefined) return instant;
  const ms = toMs(instant) - clockoffsetms;
  return ms >= EARLIEST_MS && ms <= LATEST_MS ? toInstant(ms) : instant;
}

/**
 * When an event can have occurred, milliseconds since 1970: nothing happens after it was recorded, or at no time at all, whatever
 * a clock says of which nobody knew that it was wrong.
 */
export function boundedOccurredAtMs(event: ClockStamp, recordedAtMs: number): number {
  const ms = occurredAtMs(event);
  return Number.isNaN(ms) ? recordedAtMs : Math.min(ms, recordedAtMs);
}

/** When an event occurred, milliseconds since 1970; NaN when its time is none. */
export function occurredAtMs(event: ClockStamp): number {
  return toMs(occurredAt(event));
}
