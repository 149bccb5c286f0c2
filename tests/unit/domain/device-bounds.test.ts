/** The bounds of the state that a unit's log can make: epochs, gaps, lost ranges and lockers. */

import { describe, expect, test } from 'bun:test';
import { MAX_REPORTED_LOCKERS } from '../../../domain/device/device.ts';
import { isDroppedEpoch, MAX_EPOCHS_PER_UNIT, recordedSeq } from '../../../domain/device/epochs.ts';
import { detectGap, MAX_LOST_RANGES_PER_UNIT, MAX_OPEN_GAPS_PER_UNIT } from '../../../domain/device/unit-log.ts';
import { given, type Past, unitAfter } from '../../support/given.ts';
import { registered } from '../../support/scene.ts';

/** The n-th epoch that a unit begins. */
const epochOf = (n: number) => `018f0000-0000-7000-8000-${String(n).padStart(12, '0')}`;
const report = (epoch: string): Past => ({
  type: 'UnitStateReported',
  epoch,
  data: { reason: 'new-epoch', configurationHash: 'c', lockers: [] },
});
const times = <T>(count: number, make: (n: number) => T): T[] => Array.from({ length: count }, (_, n) => make(n));

describe('epochs', () => {
  test('are kept up to the bound, and those that are dropped are recognised as too old', () => {
    const { device } = unitAfter(times(MAX_EPOCHS_PER_UNIT + 50, (n) => report(epochOf(n))));
    expect(Object.keys(device.epochs)).toHaveLength(MAX_EPOCHS_PER_UNIT);
    for (const n of [0, 49]) expect(isDroppedEpoch(device, epochOf(n))).toBe(true);
    for (const n of [50, 149, 150]) expect(isDroppedEpoch(device, epochOf(n))).toBe(false);
    expect(recordedSeq(device, epochOf(50))).toBe(1);
    expect(isDroppedEpoch(device, '00000000-0000-7000-8000-000000000000')).toBe(true);
  });

  test('keep the present epoch, also if it is the oldest by its id', () => {
    // The unit began its epochs with a clock that was set back each time.
    const late = unitAfter(times(MAX_EPOCHS_PER_UNIT + 50, (n) => report(epochOf(900 - n))));
    const present = epochOf(900 - MAX_EPOCHS_PER_UNIT - 49);
    expect(late.device.epoch).toBe(present);
    expect(Object.keys(late.device.epochs)).toHaveLength(MAX_EPOCHS_PER_UNIT);
    expect(recordedSeq(late.device, present)).toBe(1);
    expect(isDroppedEpoch(late.device, present)).toBe(false);
    expect(isDroppedEpoch(late.device, epochOf(1))).toBe(true);
  });

  test('stay dropped when the unit is registered anew', () => {
    const past = times(MAX_EPOCHS_PER_UNIT + 1, (n) => report(epochOf(n)));
    const { device } = unitAfter([registered, ...past, registered]);
    expect(isDroppedEpoch(device, epochOf(0))).toBe(true);
    expect(Object.keys(device.epochs)).toHaveLength(MAX_EPOCHS_PER_UNIT);
  });
});

describe('gaps', () => {
  const gap = (n: number): Past => ({
    type: 'UnitLogGapDetected',
    data: { epoch: epochOf(n), fromSeq: 1, toSeq: 2 },
  });
  const lost = (n: number): Past => ({
    type: 'UnitLogGapClosed',
    data: { epoch: epochOf(n), fromSeq: 1, toSeq: 2, lost: true },
  });

  test('are open up to the bound, and another one is neither decided nor folded', () => {
    const full = times(MAX_OPEN_GAPS_PER_UNIT, gap);
    given(...full)
      .when((state) => detectGap(state, { epoch: epochOf(99), arrivedSeq: 3 }))
      .thenNothing();
    expect(Object.keys(unitAfter([...full, gap(99)]).log.gaps)).toEqual(times(MAX_OPEN_GAPS_PER_UNIT, epochOf));
    given(...full, lost(0))
      .when((state) => detectGap(state, { epoch: epochOf(99), arrivedSeq: 3 }))
      .thenEvents([{ type: 'UnitLogGapDetected', data: { epoch: epochOf(99), fromSeq: 1, toSeq: 2 } }]);
  });

  test('that are lost are kept up to the bound, the last ones', () => {
    const { log } = unitAfter([...times(MAX_LOST_RANGES_PER_UNIT, lost), lost(0), ...times(10, (n) => lost(500 + n))]);
    const kept = Object.keys(log.lost);
    expect(kept).toHaveLength(MAX_LOST_RANGES_PER_UNIT);
    // The range of epoch 0 was lost anew, so it is one of the last.
    expect(kept.slice(-11)).toEqual([epochOf(0), ...times(10, (n) => epochOf(500 + n))]);
    expect(kept).not.toContain(epochOf(10));
    expect(kept).toContain(epochOf(11));
  });
});

test('lockers beyond the bound are not folded, and the others go on', () => {
  const reported = (count: number): Past => ({
    type: 'UnitStateReported',
    data: {
      reason: 'new-epoch',
      configurationHash: 'c',
      lockers: times(count, (n) => ({ id: `L${n}`, door: 'closed' as const })),
    },
  });
  const opened = (locker: string): Past => ({ type: 'LockerOpened', locker, data: { cause: 'service' } });
  const { device } = unitAfter([reported(MAX_REPORTED_LOCKERS + 5), opened('another'), opened('L0')]);
  expect(Object.keys(device.lockers)).toHaveLength(MAX_REPORTED_LOCKERS);
  expect(device.lockers.L0).toEqual({ door: 'open' });
  expect(device.lockers.L1).toEqual({ door: 'closed' });
  expect(Object.values(device.epochs)).toEqual([3]);
});
