import { describe, expect, test } from 'bun:test';
import { BEHIND_GRACE_MS, FetchPlan, type FetchTarget, FIRST_RETRY_MS } from '../../../server/workers/fetch/plan.ts';

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

/** When a unit is asked, of looks every second for some intervals; whoever is asked tells something, or not. */
function askedAtS(target: FetchTarget, { tells, intervals = 3 }: { tells: boolean; intervals?: number }): number[] {
  const plan = new FetchPlan(INTERVAL_MS);
  const asked: number[] = [];
  for (let s = 0; s <= (intervals * INTERVAL_MS) / 1_000; s += 1) {
    const nowMs = START_MS + s * 1_000;
    for (const { name } of plan.due([target], nowMs)) {
      asked.push(s);
      plan.asked(name, nowMs);
      if (tells) plan.answered(name);
      if (tells) plan.told(name, nowMs);
    }
  }
  return asked;
}

describe('a unit of delivery fetch', () => {
  test('is asked once in an interval, at an instant of its own', () => {
    const instants = Array.from({ length: 200 }, (_, index) => {
      const asked = askedAtS(unit({ name: `U-${index}`, delivery: 'fetch' }), { tells: true });
      expect(asked).toHaveLength(3);
      expect(asked.map((s) => s - (asked[0] ?? 0))).toEqual([0, 60, 120]);
      return asked[0] ?? 0;
    });
    const firstHalf = instants.filter((s) => s < 30).length;
    expect(firstHalf).toBeGreaterThan(70);
    expect(firstHalf).toBeLessThan(130);
  });

  test('is not asked while it is offline, and told nothing does not change its turn', () => {
    expect(askedAtS(unit({ delivery: 'fetch', online: false }), { tells: true })).toEqual([]);
    expect(askedAtS(unit({ delivery: 'fetch' }), { tells: false })).toHaveLength(3);
  });
});

describe('a unit that pushes', () => {
  test('is left alone while its log comes by itself', () => {
    expect(askedAtS(unit(), { tells: true })).toEqual([]);
    const plan = new FetchPlan(INTERVAL_MS);
    for (let s = 0; s < 120; s += 1) {
      const draining = unit({ recorded: { epoch: EPOCH, seq: s }, reported: { epoch: EPOCH, seq: 1_000 } });
      expect(plan.due([draining], START_MS + s * 1_000)).toEqual([]);
    }
  });

  test.each([
    ['events', BEHIND],
    ['a whole epoch', { reported: { epoch: '018f0000-0000-7000-8000-000000000002', seq: 1 } }],
    ['everything', { recorded: undefined }],
  ])('is asked when %s are not recorded after the grace period', (_, lacking) => {
    expect(askedAtS(unit(lacking), { tells: true })[0]).toBe(BEHIND_GRACE_MS / 1_000);
  });

  test('is asked ever later when it tells nothing', () => {
    const asked = askedAtS(unit(BEHIND), { tells: false, intervals: 4 });
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
    expect(askedAtS(unit({ hasGap: true }), { tells: false })[0]).toBe(0);
    expect(askedAtS(unit({ hasGap: true, online: false }), { tells: false })).toEqual([]);
    expect(askedAtS(unit({ ...BEHIND, online: false }), { tells: false })).toEqual([]);
  });
});

describe('a unit that pushes and is not pinged', () => {
  test('is told once what is recorded, when its turn comes, and again when there is more', () => {
    expect(askedAtS(unit({ pinged: false }), { tells: true })).toHaveLength(1);
    const plan = new FetchPlan(INTERVAL_MS);
    const asked: number[] = [];
    for (let s = 0; s <= 600; s += 1) {
      const nowMs = START_MS + s * 1_000;
      const place = { epoch: EPOCH, seq: s < 300 ? 5 : 6 };
      for (const { name, why } of plan.due([unit({ pinged: false, recorded: place, reported: place })], nowMs)) {
        expect(why).toBe('tell');
        asked.push(s);
        plan.asked(name, nowMs);
        plan.answered(name);
        plan.told(name, nowMs);
      }
    }
    expect(asked).toHaveLength(2);
    expect(asked[0]).toBeLessThanOrEqual(60);
    expect(asked[1]).toBeGreaterThanOrEqual(300);
    expect(asked[1]).toBeLessThanOrEqual(360);
  });

  test('is left alone ever longer when it does not answer', () => {
    const asked = askedAtS(unit({ pinged: false }), { tells: false, intervals: 30 });
    expect(asked.length).toBeLessThan(12);
  });
});
