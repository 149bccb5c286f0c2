/**
 * The ping schedule decides which units are due when. Every unit is pinged once in each interval, at its phase: `hash(unit) mod
 * interval` milliseconds after the interval begins, in absolute time. The load is therefore even, a restart does not move any
 * unit, and two processes compute one schedule without communicating.
 *
 * An interval is divided into slots. The scheduler hands all units of a slot to the threads at once, and the threads ping each
 * unit at its phase. Slots are numbered from 1970, with a fixed number of slots in every interval; the last slot of an interval
 * is shorter when the slot width does not divide the interval.
 */

/** The minimum width of a slot. */
export const MIN_SLOT_WIDTH_MS = 100;
/** Most slots that await answers at a time: a longer ping time-out makes slots wider. */
const MAX_SLOTS_PER_TIMEOUT = 50;
/** Most overdue slots that still run after a delay. Older slots are skipped, so that delayed pings do not pile up. */
export const MAX_CATCH_UP_SLOTS = 5;

/** Hex digits of a unit's hash that determine its phase: 48 bits, which a number represents exactly. */
const PHASE_HEX_DIGITS = 12;

export function slotWidthMs(timeoutMs: number): number {
  return Math.max(MIN_SLOT_WIDTH_MS, Math.ceil(timeoutMs / MAX_SLOTS_PER_TIMEOUT));
}

export interface DueSlots {
  /** The numbers of the slots to run now, in ascending order. */
  readonly slots: readonly number[];
  /** How many overdue slots are skipped. */
  readonly skipped: number;
  /** The newest slot that was run or skipped: the caller passes it to the next call of `dueSlots`. */
  readonly lastSlot: number;
}

export class PingSchedule {
  readonly intervalMs: number;
  readonly widthMs: number;
  readonly slotsPerInterval: number;

  constructor(intervalMs: number, widthMs: number) {
    this.intervalMs = intervalMs;
    this.widthMs = Math.min(widthMs, intervalMs);
    this.slotsPerInterval = Math.ceil(intervalMs / this.widthMs);
  }

  /** The phase of a unit: milliseconds after the beginning of each interval. `hash`: the hash of its name, in hex. */
  phaseOf(hash: string): number {
    return Number.parseInt(hash.slice(0, PHASE_HEX_DIGITS), 16) % this.intervalMs;
  }

  /** The index of the slot, within an interval, that contains a phase. */
  slotIndexOfPhase(phaseMs: number): number {
    return Math.floor(phaseMs / this.widthMs);
  }

  /** The number of the slot that contains a moment, milliseconds since 1970. */
  slotAt(nowMs: number): number {
    const interval = Math.floor(nowMs / this.intervalMs);
    return interval * this.slotsPerInterval + Math.floor((nowMs - interval * this.intervalMs) / this.widthMs);
  }

  /** The index, within its interval, of the slot with this number. */
  slotIndexOf(slot: number): number {
    return slot % this.slotsPerInterval;
  }

  /** The start of the slot with this number, milliseconds since 1970. */
  slotStartMs(slot: number): number {
    return Math.floor(slot / this.slotsPerInterval) * this.intervalMs + this.slotIndexOf(slot) * this.widthMs;
  }

  /**
   * The slots that are due after `lastSlot`. After a step back of the clock by less than an interval no slot is due until the
   * clock has caught up, so that no unit is pinged twice; after a longer step back the schedule restarts at the present. A step
   * forward counts as a delay.
   */
  dueSlots(lastSlot: number, nowMs: number): DueSlots {
    const currentSlot = this.slotAt(nowMs);
    const behind = currentSlot - lastSlot;
    if (behind <= 0) {
      const hasSteppedFar = -behind >= this.slotsPerInterval;
      return { slots: [], skipped: 0, lastSlot: hasSteppedFar ? currentSlot : lastSlot };
    }
    // At most one interval of slots: no unit is due twice.
    const count = Math.min(behind, MAX_CATCH_UP_SLOTS, this.slotsPerInterval);
    const slots = Array.from({ length: count }, (_, index) => currentSlot - count + 1 + index);
    return { slots, skipped: behind - count, lastSlot: currentSlot };
  }
}
