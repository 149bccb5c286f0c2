import { describe, expect, test } from 'bun:test';
import {
  BEHIND_GRACE_MS,
  FetchSchedule,
  type FetchTarget,
  FIRST_RETRY_MS,
} from '../../../server/workers/fetch/fetch-schedule.ts';

const INTERVAL_MS = 60_000;
const START_MS = Date.parse('2026-07-01T12:00:00.000Z');
const EPOCH = '018f0000-0000-7000-8000-000000000001';

function unit(changes: Partial<FetchTarget> = {}): FetchTarget {
  const place = { epoch: EPOCH, seq: 5 };
  return {
    name: 'U',
    delivery: 'push',
    online: true,
    pinged: true,
    hasGap: false,
    reported: place,
    recorded: place,
    ...changes,
  };
}

const BEHIND = { reported: { epoch: EPOCH, seq: 9 } };

/** Seconds at which a worker that polls every second asks a unit, which yields new events each time or never answers. */
function askedAtS(target: FetchTarget, { yields, intervals = 3 }: { yields: boolean; intervals?: number }): number[] {
  const schedule = new FetchSchedule(INTERVAL_MS);
  const asked: number[] = [];
  for (let s = 0; s <= (intervals * INTERVAL_MS) / 1_000; s += 1) {
    const nowMs = START_MS + s * 1_000;
    for (const { name } of schedule.listDue([target], nowMs)) {
      asked.push(s);
      schedule.recordAttempt(name, nowMs);
      if (yields) schedule.recordAnswer(name);
      if (yields) schedule.recordProgress(name, nowMs);
    }
  }
  return asked;
}

describe('a unit of delivery fetch', () => {
  test('is asked once in each interval, in a slot of its own', () => {
    const instants = Array.from({ length: 200 }, (_, index) => {
      const asked = askedAtS(unit({ name: `U-${index}`, delivery: 'fetch' }), { yields: true });
      expect(asked).toHaveLength(3);
      expect(asked.map((s) => s - (asked[0] ?? 0))).toEqual([0, 60, 120]);
      return asked[0] ?? 0;
    });
    const firstHalf = instants.filter((s) => s < 30).length;
    expect(firstHalf).toBeGreaterThan(70);
    expect(firstHalf).toBeLessThan(130);
  });

  test('is not asked while it is offline, and keeps its slot when it does not answer', () => {
    expect(askedAtS(unit({ delivery: 'fetch', online: false }), { yields: true })).toEqual([]);
    expect(askedAtS(unit({ delivery: 'fetch' }), { yields: false })).toHaveLength(3);
  });
});

describe('a unit that pushes', () => {
  test('is not asked while its pushes arrive', () => {
    expect(askedAtS(unit(), { yields: true })).toEqual([]);
    const schedule = new FetchSchedule(INTERVAL_MS);
    for (let s = 0; s < 120; s += 1) {
      const draining = unit({ recorded: { epoch: EPOCH, seq: s }, reported: { epoch: EPOCH, seq: 1_000 } });
      expect(schedule.listDue([draining], START_MS + s * 1_000)).toEqual([]);
    }
  });

  test.each([
    ['events', BEHIND],
    ['a whole epoch', { reported: { epoch: '018f0000-0000-7000-8000-000000000002', seq: 1 } }],
    ['everything', { recorded: undefined }],
  ])('is asked when %s are not recorded after the grace period', (_, lacking) => {
    expect(askedAtS(unit(lacking), { yields: true })[0]).toBe(BEHIND_GRACE_MS / 1_000);
  });

  test('is asked with exponential backoff while it does not answer', () => {
    const asked = askedAtS(unit(BEHIND), { yields: false, intervals: 4 });
    const first = BEHIND_GRACE_MS / 1_000;
    const step = FIRST_RETRY_MS / 1_000;
    expect(asked).toEqual([
      first,
      first + step,
      first + 3 * step,
      first + 7 * step,
      first + 15 * step,
      first + 31 * step,
    ]);
  });

  test('is asked at once when a gap is open, unless it is offline', () => {
    expect(askedAtS(unit({ hasGap: true }), { yields: false })[0]).toBe(0);
    expect(askedAtS(unit({ hasGap: true, online: false }), { yields: false })).toEqual([]);
    expect(askedAtS(unit({ ...BEHIND, online: false }), { yields: false })).toEqual([]);
  });
});

describe('a unit that pushes and is not pinged', () => {
  test('is asked in its slot once for each recorded position, so that it may delete those events', () => {
    expect(askedAtS(unit({ pinged: false }), { yields: true })).toHaveLength(1);
    const schedule = new FetchSchedule(INTERVAL_MS);
    const asked: number[] = [];
    for (let s = 0; s <= 600; s += 1) {
      const nowMs = START_MS + s * 1_000;
      const place = { epoch: EPOCH, seq: s < 300 ? 5 : 6 };
      for (const { name, reason } of schedule.listDue(
        [unit({ pinged: false, recorded: place, reported: place })],
        nowMs,
      )) {
        expect(reason).toBe('confirm');
        asked.push(s);
        schedule.recordAttempt(name, nowMs);
        schedule.recordAnswer(name);
        schedule.recordProgress(name, nowMs);
      }
    }
    expect(asked).toHaveLength(2);
    expect(asked[0]).toBeLessThanOrEqual(60);
    expect(asked[1]).toBeGreaterThanOrEqual(300);
    expect(asked[1]).toBeLessThanOrEqual(360);
  });

  test('is asked with exponential backoff in its slots while it does not answer', () => {
    const asked = askedAtS(unit({ pinged: false }), { yields: false, intervals: 30 });
    expect(asked.length).toBeLessThan(12);
  });
});
