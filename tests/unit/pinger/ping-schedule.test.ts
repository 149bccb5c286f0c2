import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { unitHash } from '../../../domain/shard.ts';
import {
  MAX_CATCH_UP_SLOTS,
  MIN_SLOT_WIDTH_MS,
  PingSchedule,
  slotWidthMs,
} from '../../../pinger/schedule/ping-schedule.ts';
import { seededRandom } from '../../support/random.ts';

const { seed } = seededRandom();
const NOW_MS = Date.parse('2026-06-01T12:00:00.000Z');
const INTERVAL_MS = 10_000;
const SLOT_WIDTH_MS = MIN_SLOT_WIDTH_MS;

const scheduleOf = (intervalMs: number) => new PingSchedule(intervalMs, SLOT_WIDTH_MS);
const schedule = scheduleOf(INTERVAL_MS);
const instantOf = (name: string, interval: number) => scheduleOf(interval).phaseOf(unitHash(name));
const slotIndexOf = (name: string, interval: number) =>
  scheduleOf(interval).slotIndexOfPhase(instantOf(name, interval));

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
        expect(slotIndexOf(name, interval)).toBeLessThan(scheduleOf(interval).slotsPerInterval);
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
    const counts = new Array<number>(schedule.slotsPerInterval).fill(0);
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
  test('begins at or before each moment that it contains', () => {
    fc.assert(
      fc.property(moment, intervalMs, (nowMs, interval) => {
        const slot = scheduleOf(interval).slotAt(nowMs);
        expect(scheduleOf(interval).slotStartMs(slot)).toBeLessThanOrEqual(nowMs);
        expect(scheduleOf(interval).slotStartMs(slot + 1)).toBeGreaterThan(nowMs);
        expect(scheduleOf(interval).slotStartMs(slot + 1) - scheduleOf(interval).slotStartMs(slot)).toBeLessThanOrEqual(
          SLOT_WIDTH_MS,
        );
        expect(scheduleOf(interval).slotAt(scheduleOf(interval).slotStartMs(slot))).toBe(slot);
      }),
      { seed },
    );
  });

  test('of a unit begins at most its width before the instant', () => {
    fc.assert(
      fc.property(unit, moment, intervalMs, (name, nowMs, interval) => {
        const round = Math.floor(nowMs / interval) * interval;
        const slot = scheduleOf(interval).slotAt(round + instantOf(name, interval));
        expect(scheduleOf(interval).slotIndexOf(slot)).toBe(slotIndexOf(name, interval));
      }),
      { seed },
    );
  });
});

/** Lets time pass in steps, and gives the slots that were taken. */
function run(stepsMs: readonly number[], interval: number): { taken: number[]; skipped: number } {
  let nowMs = NOW_MS;
  let lastSlot = scheduleOf(interval).slotAt(nowMs);
  let skipped = 0;
  const taken: number[] = [];
  for (const stepMs of stepsMs) {
    nowMs += stepMs;
    const due = scheduleOf(interval).dueSlots(lastSlot, nowMs);
    lastSlot = due.lastSlot;
    skipped += due.skipped;
    taken.push(...due.slots);
  }
  return { taken, skipped };
}

describe('the due slots', () => {
  test('are every slot once, in order, when the loop is in time', () => {
    const inTime = fc.array(fc.integer({ min: 0, max: SLOT_WIDTH_MS }), { maxLength: 300 });
    fc.assert(
      fc.property(inTime, fc.integer({ min: 1_000, max: 20_000 }), (steps, interval) => {
        const { taken, skipped } = run(steps, interval);
        const first = scheduleOf(interval).slotAt(NOW_MS) + 1;
        expect(taken).toEqual(taken.map((_, index) => first + index));
        expect(skipped).toBe(0);
        expect(taken.length).toBe(
          scheduleOf(interval).slotAt(NOW_MS + steps.reduce((sum, step) => sum + step, 0)) - first + 1,
        );
      }),
      { seed },
    );
  });

  test('never accumulate and never repeat, however late the loop is', () => {
    const steps = fc.array(fc.integer({ min: 0, max: 50_000 }), { maxLength: 100 });
    fc.assert(
      fc.property(steps, intervalMs, (late, interval) => {
        let nowMs = NOW_MS;
        let lastSlot = scheduleOf(interval).slotAt(nowMs);
        const seen = new Set<number>();
        for (const stepMs of late) {
          nowMs += stepMs;
          const due = scheduleOf(interval).dueSlots(lastSlot, nowMs);
          expect(due.slots.length).toBeLessThanOrEqual(
            Math.min(MAX_CATCH_UP_SLOTS, scheduleOf(interval).slotsPerInterval),
          );
          expect(due.slots.length + due.skipped).toBe(scheduleOf(interval).slotAt(nowMs) - lastSlot);
          expect(new Set(due.slots.map((slot) => scheduleOf(interval).slotIndexOf(slot))).size).toBe(due.slots.length);
          for (const slot of due.slots) {
            expect(seen.has(slot)).toBe(false);
            seen.add(slot);
          }
          lastSlot = due.lastSlot;
        }
      }),
      { seed },
    );
  });

  test('contain every unit once per interval', () => {
    const { taken } = run(new Array<number>(3 * schedule.slotsPerInterval).fill(SLOT_WIDTH_MS), INTERVAL_MS);
    for (const name of ['PL-1000', 'a', 'b', 'DE-77']) {
      const mine = taken.filter((slot) => schedule.slotIndexOf(slot) === slotIndexOf(name, INTERVAL_MS));
      expect(mine).toHaveLength(3);
    }
  });

  test('report the skipped slots when the loop is late', () => {
    const lastSlot = schedule.slotAt(NOW_MS);
    expect(schedule.dueSlots(lastSlot, NOW_MS + SLOT_WIDTH_MS + 7)).toEqual({
      slots: [lastSlot + 1],
      skipped: 0,
      lastSlot: lastSlot + 1,
    });
    expect(schedule.dueSlots(lastSlot, NOW_MS + 20 * SLOT_WIDTH_MS)).toMatchObject({
      skipped: 15,
      lastSlot: lastSlot + 20,
    });
  });

  test('are wide enough that few of them wait for an answer at the same time', () => {
    expect(slotWidthMs(2_000)).toBe(MIN_SLOT_WIDTH_MS);
    expect(slotWidthMs(60_000)).toBe(1_200);
    expect(new PingSchedule(100, 1_200).slotsPerInterval).toBe(1);
  });

  test('are empty while a small step back of the clock lasts', () => {
    const lastSlot = schedule.slotAt(NOW_MS);
    expect(schedule.dueSlots(lastSlot, NOW_MS - 3_000)).toMatchObject({ slots: [], lastSlot });
    expect(schedule.dueSlots(lastSlot, NOW_MS)).toMatchObject({ slots: [], lastSlot });
    expect(schedule.dueSlots(lastSlot, NOW_MS + SLOT_WIDTH_MS).slots).toEqual([lastSlot + 1]);
  });

  test('restart after a large step back of the clock', () => {
    const backMs = NOW_MS - 3_600_000;
    const due = schedule.dueSlots(schedule.slotAt(NOW_MS), backMs);
    expect(due).toEqual({ slots: [], skipped: 0, lastSlot: schedule.slotAt(backMs) });
    expect(schedule.dueSlots(due.lastSlot, backMs + SLOT_WIDTH_MS).slots).toHaveLength(1);
  });

  test('do not accumulate when the clock steps forward', () => {
    const due = schedule.dueSlots(schedule.slotAt(NOW_MS), NOW_MS + 86_400_000);
    expect(due.slots).toHaveLength(MAX_CATCH_UP_SLOTS);
  });
});
