/**
 * When each unit is pinged: at its own instant in the interval, `hash(unit) mod interval` on absolute time. So the load is
 * flat, a restart changes nothing, and two processes agree without a word.
 *
 * Time is cut into slots; the units of a slot are handed to the threads together, which ping each at its instant. Slots are
 * numbered on from 1970, the same number of them in each interval; the last one of an interval is shorter when the width does
 * not divide it.
 */

/** Width of a slot, at least. */
export const MIN_SLOT_WIDTH_MS = 100;
/** How many slots may have pings that wait for an answer: a longer time-out makes slots wider. */
const MAX_SLOTS_PER_TIMEOUT = 50;
/** Slots that are still taken when the loop is late; older ones are left out, so that nothing piles up. */
export const MAX_CATCH_UP_SLOTS = 5;

/** Hex letters of the hash that make the instant: 48 bits, as many as a number holds exactly. */
const INSTANT_HEX_LETTERS = 12;

export function slotWidthMs(timeoutMs: number): number {
  return Math.max(MIN_SLOT_WIDTH_MS, Math.ceil(timeoutMs / MAX_SLOTS_PER_TIMEOUT));
}

export interface DueSlots {
  /** The slots to take now, in order. */
  readonly slots: readonly number[];
  /** How many were left out because the loop was late. */
  readonly skipped: number;
  /** What has been taken or left out: pass it as `lastSlot` the next time. */
  readonly lastSlot: number;
}

export class PingSchedule {
  readonly intervalMs: number;
  readonly widthMs: number;
  /** How many slots an interval has. */
  readonly slotsPerInterval: number;

  constructor(intervalMs: number, widthMs: number) {
    this.intervalMs = intervalMs;
    this.widthMs = Math.min(widthMs, intervalMs);
    this.slotsPerInterval = Math.ceil(intervalMs / this.widthMs);
  }

  /** The instant of a unit, milliseconds after the beginning of each interval. `hash`: of its name, in hex. */
  instantOf(hash: string): number {
    return Number.parseInt(hash.slice(0, INSTANT_HEX_LETTERS), 16) % this.intervalMs;
  }

  /** Which of the slots of an interval an instant lies in. */
  indexOfInstant(instantMs: number): number {
    return Math.floor(instantMs / this.widthMs);
  }

  /** The number of the slot that a moment lies in, milliseconds since 1970. */
  slotAt(nowMs: number): number {
    const round = Math.floor(nowMs / this.intervalMs);
    return round * this.slotsPerInterval + Math.floor((nowMs - round * this.intervalMs) / this.widthMs);
  }

  /** Which of the slots of an interval the slot with this number is. */
  indexOfSlot(slot: number): number {
    return slot % this.slotsPerInterval;
  }

  /** When a slot begins, milliseconds since 1970. */
  startMs(slot: number): number {
    return Math.floor(slot / this.slotsPerInterval) * this.intervalMs + this.indexOfSlot(slot) * this.widthMs;
  }

  /**
   * What is due after the slot `lastSlot`. A clock that steps back by less than an interval makes the schedule wait, so that
   * no unit is pinged twice; one that steps back further starts it anew. A clock that steps forward is a loop that was late.
   */
  dueSlots(lastSlot: number, nowMs: number): DueSlots {
    const present = this.slotAt(nowMs);
    const behind = present - lastSlot;
    if (behind <= 0) {
      const steppedFar = -behind >= this.slotsPerInterval;
      return { slots: [], skipped: 0, lastSlot: steppedFar ? present : lastSlot };
    }
    // Within one interval each slot stands once.
    const taken = Math.min(behind, MAX_CATCH_UP_SLOTS, this.slotsPerInterval);
    const slots = Array.from({ length: taken }, (_, index) => present - taken + 1 + index);
    return { slots, skipped: behind - taken, lastSlot: present };
  }
}
