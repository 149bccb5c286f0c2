import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import {
  dueSlots,
  indexOfSlot,
  instantOf,
  MAX_CATCH_UP_SLOTS,
  SLOT_WIDTH_MS,
  slotAt,
  slotIndexOf,
  slotsPerInterval,
  startOfSlotMs,
} from '../../pinger/schedule.ts';
import { seededRandom } from '../support/random.ts';

const { seed } = seededRandom();
const NOW_MS = Date.parse('2026-06-01T12:00:00.000Z');
const INTERVAL_MS = 10_000;

const intervalMs = fc.integer({ min: 100, max: 120_000 });
const moment = fc.integer({ min: 0, max: 4_000_000_000_000 });
const unit = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_-]{0,30}$/);

describe('the instant of a unit', () => {
  test('lies in the interval, and is the same each time', () => {
    fc.assert(
      fc.property(unit, intervalMs, (name, interval) => {
        const instant = instantOf(name, interval);
        expect(instant).toBeGreaterThanOrEqual(0);
        expect(instant).toBeLessThan(interval);
        expect(instantOf(name, interval)).toBe(instant);
        expect(slotIndexOf(name, interval)).toBeLessThan(slotsPerInterval(interval));
      }),
      { seed },
    );
  });

  test('comes from the hash of its name', () => {
    // The first 12 letters of sha256("PL-1000") as a number, modulo the interval.
    const hash = new Bun.CryptoHasher('sha256').update('PL-1000').digest('hex');
    expect(instantOf('PL-1000', INTERVAL_MS)).toBe(Number(BigInt(`0x${hash.slice(0, 12)}`) % BigInt(INTERVAL_MS)));
  });

  test('spreads units evenly: every slot is within 20 % of the mean', () => {
    const units = 300_000;
    const counts = new Array<number>(slotsPerInterval(INTERVAL_MS)).fill(0);
    for (let index = 0; index < units; index += 1) {
      const slot = slotIndexOf(`PL-${index}`, INTERVAL_MS);
      counts[slot] = (counts[slot] ?? 0) + 1;
    }
    const mean = units / counts.length;
    expect(Math.min(...counts)).toBeGreaterThan(mean * 0.8);
    expect(Math.max(...counts)).toBeLessThan(mean * 1.2);
  });
});

describe('a slot', () => {
  test('contains the moments that it begins before', () => {
    fc.assert(
      fc.property(moment, intervalMs, (nowMs, interval) => {
        const slot = slotAt(nowMs, interval);
        expect(startOfSlotMs(slot, interval)).toBeLessThanOrEqual(nowMs);
        expect(startOfSlotMs(slot + 1, interval)).toBeGreaterThan(nowMs);
        expect(startOfSlotMs(slot + 1, interval) - startOfSlotMs(slot, interval)).toBeLessThanOrEqual(SLOT_WIDTH_MS);
        expect(slotAt(startOfSlotMs(slot, interval), interval)).toBe(slot);
      }),
      { seed },
    );
  });

  test('of a unit begins at most its width before the instant', () => {
    fc.assert(
      fc.property(unit, moment, intervalMs, (name, nowMs, interval) => {
        const round = Math.floor(nowMs / interval) * interval;
        const slot = slotAt(round + instantOf(name, interval), interval);
        expect(indexOfSlot(slot, interval)).toBe(slotIndexOf(name, interval));
      }),
      { seed },
    );
  });
});

/** Lets time pass in steps, and gives the slots that were taken. */
function run(stepsMs: readonly number[], interval: number): { taken: number[]; skipped: number } {
  let nowMs = NOW_MS;
  let lastSlot = slotAt(nowMs, interval);
  let skipped = 0;
  const taken: number[] = [];
  for (const stepMs of stepsMs) {
    nowMs += stepMs;
    const due = dueSlots(lastSlot, nowMs, interval);
    lastSlot = due.lastSlot;
    skipped += due.skipped;
    taken.push(...due.slots);
  }
  return { taken, skipped };
}

describe('what is due', () => {
  test('is every slot once, in order, when the loop is in time', () => {
    const inTime = fc.array(fc.integer({ min: 0, max: SLOT_WIDTH_MS }), { maxLength: 300 });
    fc.assert(
      fc.property(inTime, fc.integer({ min: 1_000, max: 20_000 }), (steps, interval) => {
        const { taken, skipped } = run(steps, interval);
        const first = slotAt(NOW_MS, interval) + 1;
        expect(taken).toEqual(taken.map((_, index) => first + index));
        expect(skipped).toBe(0);
        expect(taken.length).toBe(slotAt(NOW_MS + steps.reduce((sum, step) => sum + step, 0), interval) - first + 1);
      }),
      { seed },
    );
  });

  test('never piles up and never comes twice, however late the loop is', () => {
    const steps = fc.array(fc.integer({ min: 0, max: 50_000 }), { maxLength: 100 });
    fc.assert(
      fc.property(steps, intervalMs, (late, interval) => {
        let nowMs = NOW_MS;
        let lastSlot = slotAt(nowMs, interval);
        const seen = new Set<number>();
        for (const stepMs of late) {
          nowMs += stepMs;
          const due = dueSlots(lastSlot, nowMs, interval);
          expect(due.slots.length).toBeLessThanOrEqual(Math.min(MAX_CATCH_UP_SLOTS, slotsPerInterval(interval)));
          expect(due.slots.length + due.skipped).toBe(slotAt(nowMs, interval) - lastSlot);
          expect(new Set(due.slots.map((slot) => indexOfSlot(slot, interval))).size).toBe(due.slots.length);
          for (const slot of due.slots) {
            expect(seen.has(slot)).toBe(false);
            seen.add(slot);
          }
          expect(due.lagMs).toBeGreaterThanOrEqual(0);
          expect(due.lagMs).toBeLessThan(MAX_CATCH_UP_SLOTS * SLOT_WIDTH_MS + 1);
          lastSlot = due.lastSlot;
        }
      }),
      { seed },
    );
  });

  test('pings every unit once per interval', () => {
    const { taken } = run(new Array<number>(3 * slotsPerInterval(INTERVAL_MS)).fill(SLOT_WIDTH_MS), INTERVAL_MS);
    for (const name of ['PL-1000', 'a', 'b', 'DE-77']) {
      const mine = taken.filter((slot) => indexOfSlot(slot, INTERVAL_MS) === slotIndexOf(name, INTERVAL_MS));
      expect(mine).toHaveLength(3);
    }
  });

  test('says how late it is', () => {
    const lastSlot = slotAt(NOW_MS, INTERVAL_MS);
    expect(dueSlots(lastSlot, NOW_MS + SLOT_WIDTH_MS + 7, INTERVAL_MS)).toEqual({
      slots: [lastSlot + 1],
      skipped: 0,
      lagMs: 7,
      lastSlot: lastSlot + 1,
    });
    expect(dueSlots(lastSlot, NOW_MS + 20 * SLOT_WIDTH_MS, INTERVAL_MS)).toMatchObject({
      skipped: 15,
      lagMs: (MAX_CATCH_UP_SLOTS - 1) * SLOT_WIDTH_MS,
    });
  });

  test('waits when the clock steps back a little', () => {
    const lastSlot = slotAt(NOW_MS, INTERVAL_MS);
    expect(dueSlots(lastSlot, NOW_MS - 3_000, INTERVAL_MS)).toMatchObject({ slots: [], lastSlot });
    expect(dueSlots(lastSlot, NOW_MS, INTERVAL_MS)).toMatchObject({ slots: [], lastSlot });
    expect(dueSlots(lastSlot, NOW_MS + SLOT_WIDTH_MS, INTERVAL_MS).slots).toEqual([lastSlot + 1]);
  });

  test('starts anew when the clock steps back far', () => {
    const backMs = NOW_MS - 3_600_000;
    const due = dueSlots(slotAt(NOW_MS, INTERVAL_MS), backMs, INTERVAL_MS);
    expect(due).toEqual({ slots: [], skipped: 0, lagMs: 0, lastSlot: slotAt(backMs, INTERVAL_MS) });
    expect(dueSlots(due.lastSlot, backMs + SLOT_WIDTH_MS, INTERVAL_MS).slots).toHaveLength(1);
  });

  test('is no storm when the clock steps forward', () => {
    const due = dueSlots(slotAt(NOW_MS, INTERVAL_MS), NOW_MS + 86_400_000, INTERVAL_MS);
    expect(due.slots).toHaveLength(MAX_CATCH_UP_SLOTS);
  });
});
