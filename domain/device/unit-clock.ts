/**
 * Clocks of units. A unit stamps events with its own clock, which may be wrong. The platform measures the offset, and the events of a
 * unit whose clock is wrong carry the offset at the time of their recording. So the log has both the unit's time and the correction.
 */

import type { CloudEvent } from '../events/cloud-event.ts';
import { toInstant, toMs } from '../vocabulary.ts';

/** A clock counts as wrong when its offset exceeds this. */
export const CLOCK_OFFSET_TOLERANCE_MS = 2_000;

/** Times whose year has four digits. */
const EARLIEST_MS = Date.parse('0000-01-01T00:00:00.000Z');
const LATEST_MS = Date.parse('9999-12-31T23:59:59.999Z');

export type ClockStamp = Pick<CloudEvent, 'time' | 'clockoffsetms'>;

/** By how many milliseconds a unit's clock is ahead; `undefined` when `unitTime` is no time. `atMs` is when it was read. */
export function clockOffsetMs(unitTime: string, atMs: number): number | undefined {
  const offsetMs = Math.round(toMs(unitTime) - atMs);
  return Number.isSafeInteger(offsetMs) ? offsetMs : undefined;
}

/**
 * By how many milliseconds a unit's clock is ahead, from the answer to a ping. The unit read its clock between sending and arrival;
 * `undefined` when these are too far apart to tell a wrong clock from a slow answer. `unitTimeMs` is milliseconds since 1970, NaN when
 * it is no time.
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
 * The offset with which an event is recorded: the measured one, or how far its time lies after its arrival when the measured one leaves
 * it in the future. `undefined` when the clock is not known to be wrong. So no event occurs after the platform received it.
 */
export function provenClockOffsetMs(
  unitTime: string,
  receivedAtMs: number,
  measuredMs: number | undefined,
): number | undefined {
  const aheadMs = clockOffsetMs(unitTime, receivedAtMs);
  return aheadMs !== undefined && aheadMs - (measuredMs ?? 0) > CLOCK_OFFSET_TOLERANCE_MS ? aheadMs : measuredMs;
}

/**
 * When an event occurred, RFC 3339: its time without the clock offset. A text that is no time stays as it is, and so does a time that
 * the correction would move out of the years of four digits.
 */
export function occurredAt(event: ClockStamp): string {
  return correctedInstant(event.time, event);
}

/** Another time in an event of the same clock, corrected like the time of the event. */
export function correctedInstant(instant: string, { clockoffsetms }: Pick<ClockStamp, 'clockoffsetms'>): string {
  if (clockoffsetms === undefined) return instant;
  const ms = toMs(instant) - clockoffsetms;
  return ms >= EARLIEST_MS && ms <= LATEST_MS ? toInstant(ms) : instant;
}

/**
 * When an event occurred at the latest, milliseconds since 1970: no event occurs after it was recorded, even if an undetected wrong
 * clock says so. An event without a readable time counts at its recording.
 */
export function boundedOccurredAtMs(event: ClockStamp, recordedAtMs: number): number {
  const ms = occurredAtMs(event);
  return Number.isNaN(ms) ? recordedAtMs : Math.min(ms, recordedAtMs);
}

/** When an event occurred, milliseconds since 1970; NaN when its time is none. */
export function occurredAtMs(event: ClockStamp): number {
  return toMs(occurredAt(event));
}
