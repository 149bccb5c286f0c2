import { describe, expect, test } from 'bun:test';
import {
  closeFilledGaps,
  closeLostGap,
  detectGap,
  nextExpectedSeq,
  recoverEvent,
} from '../../../domain/device/unit-log.ts';
import { EPOCH, given, type Past } from '../../support/given.ts';
import { givenBack, taken } from '../../support/scene.ts';

const OTHER = '018f0000-0000-7000-8000-000000000009';
const TIME = '2026-07-01T12:00:00.000Z';

function detected(fromSeq: number, toSeq: number, epoch = EPOCH): Past {
  return { type: 'UnitLogGapDetected', data: { epoch, fromSeq, toSeq } };
}

function closed(fromSeq: number, toSeq: number, lost: boolean, epoch = EPOCH): Past {
  return { type: 'UnitLogGapClosed', data: { epoch, fromSeq, toSeq, lost } };
}

/** Two events of the epoch are recorded. */
const TWO_RECORDED: readonly Past[] = [taken('A', { fromMin: 0, untilMin: 60 }), givenBack('A', 1)];

describe('a gap in the log of a unit', () => {
  test('covers the seqs between the last recorded and the first arrived event', () => {
    given(...TWO_RECORDED)
      .when((state) => detectGap(state, { epoch: EPOCH, arrivedSeq: 6 }))
      .thenEvents([detected(3, 5)]);
  });

  test('is not detected when the next seq or an older one arrives', () => {
    for (const arrivedSeq of [1, 2, 3]) {
      given(...TWO_RECORDED)
        .when((state) => detectGap(state, { epoch: EPOCH, arrivedSeq }))
        .thenNothing();
    }
  });

  test('is detected once, in each epoch', () => {
    const past = [...TWO_RECORDED, detected(3, 5)];
    given(...past)
      .when((state) => detectGap(state, { epoch: EPOCH, arrivedSeq: 9 }))
      .thenNothing();
    given(...past)
      .when((state) => detectGap(state, { epoch: OTHER, arrivedSeq: 4 }))
      .thenEvents([detected(1, 3, OTHER)]);
  });

  test('closes when all its seqs have arrived, and not before', () => {
    given(...TWO_RECORDED, detected(3, 4), taken('B', { fromMin: 2, untilMin: 60 }))
      .when(closeFilledGaps)
      .thenNothing();
    given(...TWO_RECORDED, detected(3, 4), taken('B', { fromMin: 2, untilMin: 60 }), givenBack('B', 3))
      .when(closeFilledGaps)
      .thenEvents([closed(3, 4, false)]);
  });

  test('is closed once', () => {
    const past = [...TWO_RECORDED, detected(1, 2), closed(1, 2, false)];
    given(...past)
      .when(closeFilledGaps)
      .thenNothing();
    expect(given(...past).state.log.gaps).toEqual({});
  });
});

describe('the end of a gap that the state does not have', () => {
  test('opens no gap, and records the range as lost when it is', () => {
    expect(given(closed(3, 5, false)).state.log).toMatchObject({ gaps: {}, lost: {} });
    expect(given(closed(3, 5, true)).state.log).toMatchObject({
      gaps: {},
      lost: { [EPOCH]: { fromSeq: 3, toSeq: 5 } },
    });
  });
});

describe('a range that the unit no longer has', () => {
  test('is recorded as lost, and the log continues behind it', () => {
    given(...TWO_RECORDED, detected(3, 5))
      .when((state) => closeLostGap(state, { epoch: EPOCH, firstAvailableSeq: 6 }))
      .thenEvents([closed(3, 5, true)]);
    const { device, log } = given(...TWO_RECORDED, detected(3, 5), closed(3, 5, true)).state;
    expect(nextExpectedSeq(log, device, EPOCH)).toBe(6);
    expect(log.gaps).toEqual({});
  });

  test('is detected and lost in one decision when no gap was open', () => {
    given(...TWO_RECORDED)
      .when((state) => closeLostGap(state, { epoch: EPOCH, firstAvailableSeq: 4 }))
      .thenEvents([detected(3, 3), closed(3, 3, true)]);
  });

  test('leaves the rest of the gap open', () => {
    const { log, device } = given(...TWO_RECORDED, detected(3, 9), closed(3, 5, true)).state;
    expect(log.gaps).toEqual({ [EPOCH]: { fromSeq: 6, toSeq: 9 } });
    expect(nextExpectedSeq(log, device, EPOCH)).toBe(6);
  });

  test('is not lost when it is already recorded', () => {
    given(...TWO_RECORDED)
      .when((state) => closeLostGap(state, { epoch: EPOCH, firstAvailableSeq: 3 }))
      .thenNothing();
  });
});

describe('a rejected event', () => {
  const event = { epoch: EPOCH, seq: 7, type: 'RentalEnded', v: 1, time: TIME, data: { reservationId: 'r' } };
  const recovered: Past = { type: 'UnitEventRecovered', locker: 'A', data: event };

  test('is recovered once', () => {
    given()
      .when(({ log }) => recoverEvent(log, event, 'A'))
      .thenEvents([recovered]);
    given(recovered)
      .when(({ log }) => recoverEvent(log, event, 'A'))
      .thenNothing();
  });

  test('proves the use of its reservation once it is recovered', () => {
    const started: Past = {
      type: 'UnitEventRecovered',
      locker: 'B',
      data: { ...event, seq: 6, type: 'RentalStarted', time: '2026-07-01T11:00:00.000Z' },
    };
    expect(given(started).state.log.usages).toEqual({ r: { locker: 'B', startedAt: '2026-07-01T11:00:00.000Z' } });
    expect(given(started, recovered).state.log.usages).toEqual({
      r: { locker: 'B', startedAt: '2026-07-01T11:00:00.000Z', endedAt: TIME },
    });
  });
});
