import { describe, expect, test } from 'bun:test';
import {
  BEHIND_GRACE_MS,
  type FetchReason,
  FetchSchedule,
  type FetchTarget,
  FIRST_RETRY_MS,
  PINGED_FOR_MS,
} from '../../../server/workers/fetch/fetch-schedule.ts';

const INTERVAL_MS = 60_000;
const START_MS = Date.parse('2026-07-01T12:00:00.000Z');
const EPOCH = '018f0000-0000-7000-8000-000000000001';
const NO_LIMIT = 1_000;

const at = (seq: number) => ({ epoch: EPOCH, seq });

function unit(changes: Partial<FetchTarget> = {}): FetchTarget {
  return {
    name: 'U',
    delivery: 'push',
    online: true,
    lastPingAnsweredAtMs: START_MS - 1_000,
    hasGap: false,
    reported: at(5),
    recorded: at(5),
    ...changes,
  };
}

const BEHIND = { reported: at(9) };
const UNPINGED = { lastPingAnsweredAtMs: undefined };

interface Attempt {
  readonly s: number;
  readonly reason: FetchReason;
}

/**
 * The attempts on one unit within some seconds, of a worker that looks every second. `events`: how many new events an answer
 * has; undefined: the unit does not answer. `changes`: what the read model says of the unit from a second on.
 */
function attempts(
  target: FetchTarget,
  {
    events,
    seconds = 180,
    changes = {},
  }: {
    readonly events: number | undefined;
    readonly seconds?: number;
    readonly changes?: Readonly<Record<number, Partial<FetchTarget>>>;
  },
): Attempt[] {
  const schedule = new FetchSchedule(INTERVAL_MS);
  let row = target;
  const made: Attempt[] = [];
  schedule.update(row, START_MS);
  for (let s = 0; s <= seconds; s += 1) {
    const nowMs = START_MS + s * 1_000;
    row = { ...row, ...changes[s] };
    if (changes[s] !== undefined) schedule.update(row, nowMs);
    const { fetches, outdated } = schedule.due(nowMs, NO_LIMIT);
    if (outdated.length > 0) schedule.update(row, nowMs);
    for (const fetch of fetches) {
      made.push({ s, reason: fetch.reason });
      schedule.recordAttempt(fetch.name, nowMs);
      if (events !== undefined) schedule.recordAnswer(fetch, events, nowMs);
    }
  }
  return made;
}

const secondsOf = (made: readonly Attempt[]) => made.map(({ s }) => s);

describe('a unit of delivery fetch', () => {
  test('is asked once in an interval, in a slot of its own', () => {
    const instants = Array.from({ length: 200 }, (_, index) => {
      const asked = secondsOf(attempts(unit({ name: `U-${index}`, delivery: 'fetch' }), { events: 1 }));
      expect(asked).toHaveLength(3);
      expect(asked.map((s) => s - (asked[0] ?? 0))).toEqual([0, 60, 120]);
      return asked[0] ?? 0;
    });
    const firstHalf = instants.filter((s) => s < 30).length;
    expect(firstHalf).toBeGreaterThan(70);
    expect(firstHalf).toBeLessThan(130);
  });

  test('is not asked while it is offline, and an answer without events does not change its slot', () => {
    const fetched = unit({ delivery: 'fetch' });
    expect(attempts({ ...fetched, online: false }, { events: 1 })).toEqual([]);
    expect(attempts(fetched, { events: 0 })).toHaveLength(3);
    const backOnline = attempts({ ...fetched, online: false }, { events: 1, changes: { 100: { online: true } } });
    expect(backOnline.map(({ reason }) => reason)).toEqual(['slot', 'slot']);
    expect(backOnline[0]?.s).toBeGreaterThanOrEqual(100);
  });
});

describe('a unit that pushes', () => {
  test('is not asked while it pushes its log', () => {
    expect(attempts(unit(), { events: 1 })).toEqual([]);
    const draining = Object.fromEntries(
      Array.from({ length: 120 }, (_, s) => [s, { recorded: at(s), reported: at(1_000) }]),
    );
    expect(attempts(unit({ reported: at(1_000) }), { events: 1, seconds: 120, changes: draining })).toEqual([]);
  });

  test.each([
    ['events', BEHIND],
    ['a whole epoch', { reported: { epoch: '018f0000-0000-7000-8000-000000000002', seq: 1 } }],
    ['everything', { recorded: undefined }],
  ])('is asked when %s are not recorded after the grace period', (_, lacking) => {
    expect(attempts(unit(lacking), { events: 1 })[0]).toEqual({ s: 15, reason: 'behind' });
    expect(BEHIND_GRACE_MS).toBe(15_000);
  });

  test('is asked after waits that double while it answers nothing new', () => {
    const asked = secondsOf(attempts(unit(BEHIND), { events: undefined, seconds: 240 }));
    const step = FIRST_RETRY_MS / 1_000;
    expect(asked).toEqual([15, 15 + step, 15 + 3 * step, 15 + 7 * step, 15 + 15 * step, 15 + 31 * step]);
  });

  test('is asked at once when a gap is open, unless it is offline', () => {
    expect(attempts(unit({ hasGap: true }), { events: undefined })[0]).toEqual({ s: 0, reason: 'gap' });
    expect(attempts(unit({ hasGap: true, online: false }), { events: undefined })).toEqual([]);
    expect(attempts(unit({ ...BEHIND, online: false }), { events: undefined })).toEqual([]);
  });

  test('that brings events is asked again after a second, and not more often', () => {
    const asked = secondsOf(attempts(unit({ hasGap: true }), { events: 3, seconds: 5 }));
    expect(asked).toEqual([0, 1, 2, 3, 4, 5]);
  });
});

describe('a unit that pushes and is not pinged', () => {
  test('has recorded events confirmed once, in its slot, and again when more is recorded', () => {
    expect(attempts(unit(UNPINGED), { events: 0 })).toHaveLength(1);
    const more = { 300: { recorded: at(6), reported: at(6) } };
    const asked = attempts(unit(UNPINGED), { events: 0, seconds: 600, changes: more });
    expect(asked.map(({ reason }) => reason)).toEqual(['confirm', 'confirm']);
    expect(asked[0]?.s).toBeLessThanOrEqual(60);
    expect(asked[1]?.s).toBeGreaterThanOrEqual(300);
    expect(asked[1]?.s).toBeLessThanOrEqual(360);
  });

  test('is asked with exponential backoff while it does not answer', () => {
    const asked = attempts(unit(UNPINGED), { events: undefined, seconds: 1_800 });
    expect(asked.length).toBeGreaterThan(5);
    expect(asked.length).toBeLessThan(12);
  });

  test('has events confirmed when its pings stopped before one confirmed them', () => {
    const recorded = { 5: { recorded: at(6), reported: at(6) } };
    const asked = attempts(unit(), { events: 0, seconds: 900, changes: recorded });
    expect(asked.map(({ reason }) => reason)).toEqual(['confirm']);
    expect(asked[0]?.s).toBeGreaterThanOrEqual(PINGED_FOR_MS / 1_000 - 1);
  });

  test('is not asked to confirm what a ping has confirmed', () => {
    const changes = { 5: { recorded: at(6), reported: at(6) }, 599: { lastPingAnsweredAtMs: START_MS + 20_000 } };
    expect(attempts(unit(), { events: 0, seconds: 1_800, changes })).toEqual([]);
  });
});

describe('the schedule', () => {
  test('holds only units that may become due', () => {
    const schedule = new FetchSchedule(INTERVAL_MS);
    const pinged = (nowMs: number) => unit({ lastPingAnsweredAtMs: nowMs - 1_000 });
    schedule.update(pinged(START_MS), START_MS);
    expect(schedule.size).toBe(1);
    schedule.update({ ...pinged(START_MS), lastPingAnsweredAtMs: START_MS + 1_000 }, START_MS + 2_000);
    expect(schedule.size).toBe(0);
    for (const name of ['A', 'B', 'C']) schedule.update(unit({ name, hasGap: true }), START_MS);
    schedule.remove('A');
    schedule.retain(new Set(['C']));
    expect(schedule.size).toBe(1);
    expect(schedule.due(START_MS, NO_LIMIT).fetches).toEqual([{ name: 'C', reason: 'gap' }]);
  });

  test('returns at most as many units as its caller has capacity for, and the others at the next call', () => {
    const schedule = new FetchSchedule(INTERVAL_MS);
    for (let index = 0; index < 5; index += 1) schedule.update(unit({ name: `U-${index}`, hasGap: true }), START_MS);
    const first = schedule.due(START_MS, 2).fetches;
    const second = schedule.due(START_MS, NO_LIMIT).fetches;
    expect(first).toHaveLength(2);
    expect([...first, ...second].map(({ name }) => name).toSorted()).toEqual(['U-0', 'U-1', 'U-2', 'U-3', 'U-4']);
  });

  test('keeps its queue in proportion to its units, however often rows change', () => {
    const schedule = new FetchSchedule(INTERVAL_MS);
    for (let change = 0; change < 50_000; change += 1)
      schedule.update(unit({ recorded: at(change), reported: at(change + 10) }), START_MS + change);
    expect(schedule.queueLength).toBeLessThan(2_000);
  });
});
