import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { rentAtScreen } from '../../../device-sim/unit/customer-actions.ts';
import { markRecorded } from '../../../device-sim/unit/lifecycle.ts';
import { boundLog, MIN_UNRECORDED_EVENTS } from '../../../device-sim/unit/log-bound.ts';
import { firstAvailableSeq, type UnitModel } from '../../../device-sim/unit/model.ts';
import { type DeviceState, evolveDevice, UNREPORTED_DEVICE } from '../../../domain/device/device.ts';
import { upcast } from '../../../domain/events/catalogue.ts';
import type { BatchEvent } from '../../../domain/unit-protocol/batch.ts';
import { after, around, countingIds, NOON_MS, newUnit } from '../../support/device-unit.ts';
import { asStored, performAction, unitAction } from '../../support/random-unit-actions.ts';

/** A unit that declines payments: each attempt is two entries that change no locker. */
const declined = (maxEvents: number) => (unit: UnitModel) => {
  const at = around({ doesTerminalDecline: true });
  return boundLog(rentAtScreen(unit, { locker: 'A', minutes: 60 }, at), at, maxEvents);
};
const times = (count: number, maxEvents: number) => Array.from({ length: count }, () => declined(maxEvents));
const recordedTo = (seq: number) => (unit: UnitModel) => markRecorded(unit, { epoch: unit.log.epoch, seq });

describe('a log with room for 10 events', () => {
  test('has no checkpoint before it is half full', () => {
    expect(after(newUnit(), ...times(1, 10)).log).toMatchObject({ lastSeq: 3, checkpointSeq: 0, droppedSeq: 0 });
  });

  test('gets a report of every locker once it is half full', () => {
    const half = after(newUnit(), ...times(1, 10));
    const { unit, entries } = declined(10)(half);
    expect(entries.map(({ seq, type }) => [seq, type])).toEqual([
      [4, 'PaymentStarted'],
      [5, 'PaymentFailed'],
      [6, 'UnitStateReported'],
    ]);
    expect(entries[2]?.data).toMatchObject({ reason: 'gap', lockers: [{ id: 'A' }, { id: 'B' }, { id: 'C' }] });
    expect(unit.log).toMatchObject({ lastSeq: 6, checkpointSeq: 6, droppedSeq: 0 });
  });

  test('has one checkpoint at a time', () => {
    const { log } = after(newUnit(), ...times(4, 10));
    expect(log).toMatchObject({ lastSeq: 10, checkpointSeq: 6, droppedSeq: 0 });
  });

  test('drops every event before the checkpoint when it is full, and writes the next checkpoint', () => {
    const { log } = after(newUnit(), ...times(5, 10));
    // 6 to 12 are 7 events: half full again, so that 13 is the next report.
    expect(log).toMatchObject({ lastSeq: 13, droppedSeq: 5, checkpointSeq: 13, recordedSeq: 0 });
    expect(firstAvailableSeq(log)).toBe(6);
  });

  test('drops no unrecorded event when the platform records in time', () => {
    const unit = after(newUnit(), ...times(4, 10), recordedTo(8), declined(10));
    expect(unit.log).toMatchObject({ droppedSeq: 0, recordedSeq: 8, lastSeq: 12 });
    // What was recorded has taken the checkpoint with it; the next one comes when the log is half full again.
    expect(unit.log.checkpointSeq).toBe(6);
    expect(after(unit, declined(10)).log).toMatchObject({ lastSeq: 15, checkpointSeq: 15 });
  });

  test('accepts a recorded seq below the dropped ones, and then one above them', () => {
    const cut = after(newUnit(), ...times(5, 10));
    const late = after(cut, recordedTo(3));
    expect(late.log).toMatchObject({ recordedSeq: 3, droppedSeq: 5 });
    expect(firstAvailableSeq(late.log)).toBe(6);
    expect(firstAvailableSeq(after(late, recordedTo(7)).log)).toBe(8);
  });

  test('gets no checkpoint when the platform only reports what is recorded', () => {
    const unit = after(newUnit(), ...times(20, 1_000));
    const decision = recordedTo(2)(unit);
    expect(boundLog(decision, around(), 10)).toEqual(decision);
  });
});

test('a decision with more events than the log can hold leaves a report of every locker', () => {
  const entries = Array.from({ length: 30 }, (_, index): BatchEvent => {
    return { seq: index + 2, v: 1, type: 'LockerClosed', time: '2026-07-01T12:00:00.000Z', locker: 'A', data: {} };
  });
  const unit = newUnit();
  const long = { unit: { ...unit, log: { ...unit.log, lastSeq: 31 } }, entries, answer: null };
  const bounded = boundLog(long, around(), MIN_UNRECORDED_EVENTS);
  expect(bounded.entries.at(-1)).toMatchObject({ seq: 32, type: 'UnitStateReported' });
  expect(bounded.unit.log).toMatchObject({ droppedSeq: 31, lastSeq: 32 });
});

/** The rows of the store, as `FleetStore` keeps them. */
function keep(rows: Map<number, BatchEvent>, before: UnitModel, unit: UnitModel, entries: readonly BatchEvent[]): void {
  if (unit.log.epoch !== before.log.epoch) rows.clear();
  for (const entry of entries) {
    expect(rows.has(entry.seq)).toBe(false);
    rows.set(entry.seq, entry);
  }
  for (const seq of rows.keys()) if (seq < firstAvailableSeq(unit.log)) rows.delete(seq);
}

function folded(state: DeviceState, entries: Iterable<BatchEvent>): DeviceState {
  let next = state;
  for (const entry of entries) {
    const event = upcast(asStored(entry));
    if (event !== undefined) next = evolveDevice(next, event);
  }
  return next;
}

const step = fc.record({ action: unitAction, records: fc.option(fc.double({ min: 0, max: 1, noNaN: true })) });

test('a bounded log has no gaps after any story, and its remaining events yield the state of the lockers', () => {
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 120 }),
      fc.integer({ min: MIN_UNRECORDED_EVENTS, max: 30 }),
      (story, maxEvents) => {
        const newId = countingIds();
        let unit = newUnit();
        const rows = new Map<number, BatchEvent>();
        let platform = UNREPORTED_DEVICE;
        // The first entry, as the story of this unit begins.
        keep(rows, unit, unit, takeFirst());
        for (const [index, { action, records }] of story.entries()) {
          const at = around({ nowMs: NOON_MS + index * 1_000, newId, jammedLockers: new Set(action.jammed) });
          const before = unit;
          const decision = boundLog(performAction(before, action, at, index), at, maxEvents);
          unit = decision.unit;
          if (unit.log.epoch !== before.log.epoch) platform = UNREPORTED_DEVICE;
          keep(rows, before, unit, decision.entries);

          const { log } = unit;
          const first = firstAvailableSeq(log);
          expect([...rows.keys()]).toEqual(Array.from({ length: log.lastSeq + 1 - first }, (_, at) => first + at));
          expect(rows.size).toBeLessThanOrEqual(maxEvents);
          if (log.droppedSeq > log.recordedSeq) expect(rows.get(first)?.type).toBe('UnitStateReported');

          const known = folded(platform, rows.values());
          for (const { id, door, rental } of unit.lockers) {
            const believed = known.lockers[id];
            if (believed === undefined || believed.door === 'unknown') expect(rental).toBeUndefined();
            else expect(believed.door).toBe(door);
            expect(believed?.rental?.rentalId).toBe(rental?.rentalId);
          }
          if (records === null) continue;
          // The platform takes what there is up to a place, and names that recorded.
          const seq = first - 1 + Math.floor(records * rows.size);
          platform = folded(platform, [...rows.values()].slice(0, seq + 1 - first));
          const named = recordedTo(seq)(unit);
          keep(rows, unit, named.unit, named.entries);
          unit = named.unit;
        }
      },
    ),
    { numRuns: 300 },
  );
});

function takeFirst(): BatchEvent[] {
  const lockers = newUnit().lockers.map(({ id, door }) => ({ id, door }));
  const data = { reason: 'new-epoch', configurationHash: newUnit().configuration.hash, lockers };
  return [{ seq: 1, v: 1, type: 'UnitStateReported', time: '2026-07-01T12:00:00.000Z', data }];
}
