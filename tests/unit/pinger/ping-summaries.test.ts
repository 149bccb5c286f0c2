import { describe, expect, test } from 'bun:test';
import { SlotResults } from '../../../pinger/pool/slot-results.ts';
import { PingSummaries } from '../../../pinger/telemetry/ping-summaries.ts';
import { BUCKET_MS } from '../../../platform/liveness/telemetry-message.ts';

const INTERVAL_MS = 10_000;
const T0 = 1_000 * BUCKET_MS;
const EPOCH = '018f0000-0000-7000-8000-000000000001';
const CAPACITY = 8;
const FLAPPING_INDEX = 7;

function createSummaries(fleetSize: number) {
  let nowMs = T0;
  const summaries = new PingSummaries({
    capacity: CAPACITY,
    intervalMs: INTERVAL_MS,
    monotonic: () => nowMs,
    units: () => fleetSize,
    isFlapping: (index) => index === FLAPPING_INDEX,
  });
  for (let index = 0; index < CAPACITY; index += 1) summaries.reset(index);
  return {
    summaries,
    pass: (ms: number) => {
      nowMs += ms;
    },
    answer(index: number, rttMs: number, lastSeq = 7) {
      const results = SlotResults.createDiscarded(1);
      results.sentAtMs[0] = nowMs;
      results.rttMs[0] = rttMs;
      results.lastSeqs[0] = lastSeq;
      results.clockOffsetsMs[0] = -3;
      results.epochs.set(Buffer.from(EPOCH.replaceAll('-', ''), 'hex'));
      results.configurationHashes.fill(0xab);
      summaries.recordAnswer(index, `u-${index}`, results, 0);
    },
    lose: (index: number) => summaries.recordLoss(index, `u-${index}`, nowMs),
  };
}

describe('a small fleet', () => {
  test('is published at every ping', () => {
    const { summaries, answer, lose, pass } = createSummaries(50);
    answer(0, 12.5);
    pass(INTERVAL_MS);
    lose(0);
    expect(summaries.takeDue()).toEqual([
      {
        heard: 'pings',
        unit: 'u-0',
        at: T0,
        bucketAt: T0,
        sent: 1,
        lost: 0,
        last: { at: T0, rttMs: 12.5, epoch: EPOCH, lastSeq: 7, configurationHash: 'ab'.repeat(8), clockOffsetMs: -3 },
        rttMs: { min: 12.5, max: 12.5, sum: 12.5 },
      },
      { heard: 'pings', unit: 'u-0', at: T0 + INTERVAL_MS, bucketAt: T0, sent: 1, lost: 1 },
    ]);
    expect(summaries.takeDue()).toEqual([]);
  });

  test('is published with a mark on units that flap', () => {
    const { summaries, lose } = createSummaries(50);
    lose(FLAPPING_INDEX);
    expect(summaries.takeDue()).toMatchObject([{ unit: `u-${FLAPPING_INDEX}`, flapping: true }]);
  });
});

describe('a large fleet', () => {
  /** At 5,000 results a second each unit is published once a minute. */
  const UNITS = 300_000;

  test('is published in turn, and every ping counts once', () => {
    const { summaries, answer, lose, pass } = createSummaries(UNITS);
    const published: { sent: number; lost: number; sum: number }[] = [];
    let [sent, lost, sum] = [0, 0, 0];
    for (let round = 0; round < 60; round += 1) {
      if (round % 5 === 4) {
        lose(1);
        lost += 1;
      } else {
        answer(1, round);
        sum += round;
      }
      sent += 1;
      pass(INTERVAL_MS);
      for (const result of summaries.takeDue()) {
        if (result.heard === 'pings') published.push({ ...result, sum: result.rttMs?.sum ?? 0 });
      }
    }
    expect(published.length).toBeGreaterThanOrEqual(9);
    expect(published.length).toBeLessThanOrEqual(14);
    const total = (of: 'sent' | 'lost' | 'sum') => published.reduce((all, each) => all + each[of], 0);
    expect(sent - total('sent')).toBeLessThan(7);
    expect(lost - total('lost')).toBeLessThan(3);
    expect(total('sum')).toBeLessThanOrEqual(sum);
  });

  test('is published early for a unit that reports another position in its log', () => {
    const { summaries, answer } = createSummaries(UNITS);
    answer(0, 1, 7);
    summaries.takeDue();
    answer(0, 1, 7);
    expect(summaries.takeDue()).toEqual([]);
    answer(0, 1, 8);
    expect(summaries.takeDue()).toMatchObject([{ last: { lastSeq: 8 } }]);
  });

  test('is published by buckets: a result never covers two of them', () => {
    const { summaries, answer, pass } = createSummaries(UNITS);
    answer(0, 1);
    summaries.takeDue();
    answer(0, 2);
    answer(0, 4);
    pass(BUCKET_MS);
    answer(0, 8);
    expect(summaries.takeDue()[0]).toMatchObject({ bucketAt: T0, sent: 2, rttMs: { min: 2, max: 4, sum: 6 } });
  });
});
