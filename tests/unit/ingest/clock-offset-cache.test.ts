import { describe, expect, test } from 'bun:test';
import { newUnitState } from '../../../domain/unit/unit.ts';
import { createLog } from '../../../platform/observability/log.ts';
import { parseBatch, planAppend } from '../../../platform/unit-log/batch.ts';
import { type ClockOffset, ClockOffsetCache } from '../../../platform/unit-log/clock-offset-cache.ts';
import { EPOCH, UNIT } from '../../support/given.ts';
import { at, atMs } from '../../support/scene.ts';
import { silentLog } from '../../support/silent-log.ts';

const HOUR_MS = 3_600_000;

describe('the clock offset cache', () => {
  /** Polls as often as `before` has entries: each prepares one read, and sees the cache as the reads before it left it. */
  async function pollWith(...before: ((world: { offsets: Map<string, number>; isAway: boolean }) => void)[]) {
    const lines: string[] = [];
    const world = { offsets: new Map([[UNIT, HOUR_MS]]), isAway: false };
    const stop = new AbortController();
    const pauses: number[] = [];
    const seen: (number | undefined)[] = [];
    let reads = 0;
    const cache = new ClockOffsetCache({
      read: async () => {
        before[reads]?.(world);
        reads += 1;
        if (world.isAway) throw new Error('Postgres is away');
        return new Map([...world.offsets].map(([unit, offsetMs]) => [unit, { offsetMs, measuredAtMs: 0 }]));
      },
      clock: () => 0,
      log: createLog((line) => lines.push(line), Date.now),
    });
    await cache.poll(stop.signal, async (ms) => {
      seen.push(cache.get(UNIT));
      if (pauses.push(ms) === before.length) stop.abort();
    });
    await cache.firstRead;
    return { cache, seen, pauses, reads, messages: lines.map((line): string => JSON.parse(line).message) };
  }
  const asItIs = () => undefined;

  test('returns what the last successful read returned, and logs one failure and one recovery of an outage', async () => {
    const { cache, seen, messages } = await pollWith(
      asItIs,
      (world) => {
        world.isAway = true;
      },
      asItIs,
      asItIs,
      (world) => {
        world.isAway = false;
        world.offsets.clear();
      },
    );
    expect(seen).toEqual([HOUR_MS, HOUR_MS, HOUR_MS, HOUR_MS, undefined]);
    expect(cache.get('PL-1001')).toBeUndefined();
    expect(messages).toEqual([
      'Reading the clock offsets of units fails. It is repeated with exponential backoff.',
      'Reading the clock offsets of units works again.',
    ]);
  });

  test('reads every three seconds until the signal aborts', async () => {
    const { pauses, reads } = await pollWith(asItIs, asItIs, asItIs);
    expect(pauses).toEqual([3_000, 3_000, 3_000]);
    expect(reads).toBe(3);
  });

  test('a failed first read ends the wait for the first read', async () => {
    const { seen } = await pollWith((world) => {
      world.isAway = true;
    });
    expect(seen).toEqual([undefined]);
  });
});

describe('the clock of a unit for signatures', () => {
  const NOW_MS = 1_800_000_000_000;

  /** The difference between the clock of the unit and that of the platform, as the cache tells them. */
  async function differenceMs(offset: ClockOffset | undefined): Promise<number> {
    const stop = new AbortController();
    const cache = new ClockOffsetCache({
      read: async () => new Map(offset === undefined ? [] : [[UNIT, offset]]),
      clock: () => NOW_MS,
      log: silentLog,
    });
    await cache.poll(stop.signal, async () => stop.abort());
    return cache.unitNowMs(UNIT) - NOW_MS;
  }

  test.each([
    ['is ahead by the measured offset', { offsetMs: 60_000, measuredAtMs: NOW_MS }, 60_000],
    ['is behind by the measured offset', { offsetMs: -100_000, measuredAtMs: NOW_MS }, -100_000],
    ['counts as right when no offset is known', undefined, 0],
    ['follows an offset of an hour', { offsetMs: -3_600_000, measuredAtMs: NOW_MS }, -3_600_000],
    ['counts as right when it is further ahead', { offsetMs: 3_600_001, measuredAtMs: NOW_MS }, 0],
    ['counts as right when it is further behind', { offsetMs: -3_600_001, measuredAtMs: NOW_MS }, 0],
    ['follows an offset that is an hour old', { offsetMs: 5_000, measuredAtMs: NOW_MS - 3_600_000 }, 5_000],
    ['counts as right when the offset is older', { offsetMs: 5_000, measuredAtMs: NOW_MS - 3_600_001 }, 0],
  ])('%s', async (_, offset, expected) => {
    expect(await differenceMs(offset)).toBe(expected);
  });
});

describe('a batch', () => {
  const options = { receivedAtMs: atMs(9), storedRejections: new Set([1, 2]) };
  const closed = (seq: number) => ({ seq, v: 1, type: 'LockerClosed', time: at(seq), locker: 'A', data: {} });
  const batch = parseBatch(
    UNIT,
    new TextEncoder().encode(
      JSON.stringify({ unit: UNIT, epoch: EPOCH, events: [closed(1), { ...closed(2), data: 'none' }, { seq: 3 }] }),
    ),
  );

  test('of a unit whose clock is wrong carries the offset in each event whose time the unit stated', () => {
    const { events } = planAppend(batch, newUnitState(UNIT), { ...options, clockOffsetMs: HOUR_MS });
    expect(events.map(({ type, time, clockoffsetms }) => ({ type, time, clockoffsetms }))).toEqual([
      { type: 'LockerClosed', time: at(1), clockoffsetms: HOUR_MS },
      { type: 'UnitEventRejected', time: at(2), clockoffsetms: HOUR_MS },
      { type: 'UnitEventRejected', time: at(9), clockoffsetms: undefined },
    ]);
  });

  test('of a unit whose clock is right carries no offset', () => {
    const { events } = planAppend(batch, newUnitState(UNIT), options);
    expect(events).toHaveLength(3);
    for (const event of events) expect(event).not.toHaveProperty('clockoffsetms');
  });
});
