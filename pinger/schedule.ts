/**
 * When each unit is pinged: at its own instant in the interval, `hash(unit) mod interval` on absolute time. So the load is
 * flat, a restart changes nothing, and two processes agree without a word.
 *
 * Time is cut into slots; the units of a slot are pinged together when it begins. Slots are numbered on from 1970, the same
 * number of them in each interval; the last one of an interval is shorter when the width does not divide it.
 */

import { unitHash } from '../domain/shard.ts';

/** Width of a slot: how much earlier than its instant a unit may be pinged. */
export const SLOT_WIDTH_MS = 100;
/** Slots that are still taken when the loop is late; older ones are left out, so that nothing piles up. */
export const MAX_CATCH_UP_SLOTS = 5;

/** Hex letters of the hash that make the instant: 48 bits, as many as a number holds exactly. */
const INSTANT_HEX_LETTERS = 12;

/** The instant of a unit, milliseconds after the beginning of each interval. */
export function instantOf(unit: string, intervalMs: number): number {
  return Number.parseInt(unitHash(unit).slice(0, INSTANT_HEX_LETTERS), 16) % intervalMs;
}

/** How many slots an interval has. */
export function slotsPerInterval(intervalMs: number): number {
  return Math.ceil(intervalMs / SLOT_WIDTH_MS);
}

/** Which of the slots of an interval a unit belongs to. */
export function slotIndexOf(unit: string, intervalMs: number): number {
  return Math.floor(instantOf(unit, intervalMs) / SLOT_WIDTH_MS);
}

/** The number of the slot that a moment lies in. */
export function slotAt(nowMs: number, intervalMs: number): number {
  const round = Math.floor(nowMs / intervalMs);
  return round * slotsPerInterval(intervalMs) + Math.floor((nowMs - round * intervalMs) / SLOT_WIDTH_MS);
}

/** Which of the slots of an interval the slot with this number is. */
export function indexOfSlot(slot: number, intervalMs: number): number {
  return slot % slotsPerInterval(intervalMs);
}

/** When a slot begins, milliseconds since 1970. */
export function startOfSlotMs(slot: number, intervalMs: number): number {
  const round = Math.floor(slot / slotsPerInterval(intervalMs));
  return round * intervalMs + indexOfSlot(slot, intervalMs) * SLOT_WIDTH_MS;
}

export interface Due {
  /** The slots to take now, in order. */
  readonly slots: readonly number[];
  /** How many were left out because the loop was late. */
  readonly skipped: number;
  /** How late the first of `slots` is taken; 0 when there is none. */
  readonly lagMs: number;
  /** What has been taken or left out: pass it as `lastSlot` the next time. */
  readonly lastSlot: number;
}

/**
 * What is due after the slot `lastSlot`. A clock that steps back by less than an interval makes the schedule wait, so that
 * no unit is pinged twice; one that steps back further starts it anew. A clock that steps forward is a loop that was late.
 */
export function dueSlots(lastSlot: number, nowMs: number, intervalMs: number): Due {
  const present = slotAt(nowMs, intervalMs);
  const behind = present - lastSlot;
  if (behind <= 0) {
    const steppedFar = -behind >= slotsPerInterval(intervalMs);
    return { slots: [], skipped: 0, lagMs: 0, lastSlot: steppedFar ? present : lastSlot };
  }
  // Within one interval each slot stands once.
  const taken = Math.min(behind, MAX_CATCH_UP_SLOTS, slotsPerInterval(intervalMs));
  const slots = Array.from({ length: taken }, (_, index) => present - taken + 1 + index);
  const lagMs = nowMs - startOfSlotMs(slots[0] ?? present, intervalMs);
  return { slots, skipped: behind - taken, lagMs, lastSlot: present };
}
