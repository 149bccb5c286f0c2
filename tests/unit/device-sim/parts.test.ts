import { Database } from 'bun:sqlite';
import { describe, expect, test } from 'bun:test';
import { Value } from '@sinclair/typebox/value';
import { LatencyHistogram } from '../../../device-sim/emulation/fleet-metrics.ts';
import type { Clock } from '../../../device-sim/environment/clock.ts';
import { Random } from '../../../device-sim/environment/random.ts';
import { Timers } from '../../../device-sim/environment/timers.ts';
import { FaultChange } from '../../../device-sim/faults/faults.ts';
import { loopbackAddress } from '../../../device-sim/plan/addresses.ts';
import { fleetPrefix, lockerId, planFleet } from '../../../device-sim/plan/fleet-plan.ts';
import { SCENARIOS } from '../../../device-sim/scenarios/scenarios.ts';
import { GroupCommit, StoreError } from '../../../device-sim/store/group-commit.ts';
import { reorderedHalves } from '../../../device-sim/transports/batches.ts';
import { Locker, UnitName } from '../../../domain/vocabulary.ts';

describe('a seeded random source', () => {
  test('repeats with the seed and differs between seeds and streams', () => {
    const draw = (seed: number, stream: string) => {
      const random = new Random(seed, stream);
      return Array.from({ length: 5 }, () => random.next());
    };
    expect(draw(1, 'a')).toEqual(draw(1, 'a'));
    expect(draw(1, 'a')).not.toEqual(draw(2, 'a'));
    expect(draw(1, 'a')).not.toEqual(draw(1, 'b'));
  });

  test('is evenly distributed and stays within its bounds', () => {
    const random = new Random(7, 'even');
    const counts = new Map<number, number>();
    for (let draw = 0; draw < 60_000; draw++) {
      const value = random.integer(1, 6);
      counts.set(value, (counts.get(value) ?? 0) + 1);
    }
    expect([...counts.keys()].sort()).toEqual([1, 2, 3, 4, 5, 6]);
    for (const count of counts.values()) expect(Math.abs(count - 10_000)).toBeLessThan(500);
    const waits = Array.from({ length: 20_000 }, () => random.exponential(10));
    expect(waits.reduce((sum, wait) => sum + wait, 0) / waits.length).toBeCloseTo(10, 0);
    expect(() => random.pick([])).toThrow(RangeError);
  });
});

describe('the fleet of a seed', () => {
  test('has the same units for any fleet size', () => {
    const few = planFleet({ units: 3, lockers: 4, seed: 1 });
    const many = planFleet({ units: 30, lockers: 4, seed: 1 });
    expect(many.slice(0, 3)).toEqual(few);
    expect(few.map(({ name }) => name)).toEqual(['PL-1000', 'PL-1001', 'PL-1002']);
    expect(few[0]?.lockers.map(({ id }) => id)).toEqual(['A', 'B', 'C', 'D']);
    for (const { name, lockers } of many) {
      expect(Value.Check(UnitName, name)).toBe(true);
      for (const locker of lockers) expect(Value.Check(Locker, locker)).toBe(true);
    }
  });

  test('shares no unit id with the fleet of another seed', () => {
    expect([fleetPrefix(1), fleetPrefix(2), fleetPrefix(0)]).toEqual(['PL', 'PM', 'PK']);
    const prefixes = Array.from({ length: 5_000 }, (_, seed) => fleetPrefix(seed));
    expect(new Set(prefixes).size).toBe(prefixes.length);
    expect(fleetPrefix(2_147_483_647)).toMatch(/^[A-Z]{6,7}$/);
  });

  test('has lockers named like the columns of a sheet, and addresses of its own', () => {
    expect([0, 25, 26, 51, 52, 701, 702].map(lockerId)).toEqual(['A', 'Z', 'AA', 'AZ', 'BA', 'ZZ', 'AAA']);
    expect([0, 254, 255, 65_535].map(loopbackAddress)).toEqual([
      '127.64.0.1',
      '127.64.0.255',
      '127.64.1.0',
      '127.65.0.0',
    ]);
  });
});

test('phases of every scenario fill its duration', () => {
  for (const { phases } of SCENARIOS) {
    expect(phases.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 9);
  }
});

test('a latency histogram gives percentiles to within 1 %, and bounds what it records', () => {
  const latencies = new LatencyHistogram();
  expect(latencies.percentileMs(0.5)).toBeNull();
  for (let ms = 1; ms <= 1_000; ms++) latencies.record(ms);
  expect(Math.abs((latencies.percentileMs(0.5) ?? 0) / 500 - 1)).toBeLessThan(0.01);
  expect(Math.abs((latencies.percentileMs(0.99) ?? 0) / 990 - 1)).toBeLessThan(0.01);
  latencies.record(-1);
  latencies.record(1e12);
  expect(latencies.count).toBe(1_002);
  expect(latencies.percentileMs(0)).toBe(0);
  expect(Math.abs((latencies.percentileMs(1) ?? 0) / 3_600_000 - 1)).toBeLessThan(0.01);
});

test('a change of faults is refused when it names an unknown fault or a value out of bounds', () => {
  expect(Value.Check(FaultChange, {})).toBe(true);
  expect(Value.Check(FaultChange, { offline: true, lossRate: 0.5, jammed: ['A'] })).toBe(true);
  for (const bad of [{ offlin: true }, { lossRate: 1.1 }, { latencyMs: -1 }, { latencyMs: 1.5 }, { jammed: [''] }]) {
    expect(Value.Check(FaultChange, bad)).toBe(false);
  }
});

test('a reordered batch is sent as two halves, the second first', () => {
  const batch = (fromSeq: number, ...bodies: string[]) => ({
    epoch: 'e',
    fromSeq,
    toSeq: fromSeq + bodies.length - 1,
    bodies,
  });
  expect(reorderedHalves(batch(5, 'a'))).toEqual([batch(5, 'a')]);
  expect(reorderedHalves(batch(5, 'a', 'b', 'c'))).toEqual([batch(7, 'c'), batch(5, 'a', 'b')]);
});

describe('timers', () => {
  /** A clock that the test moves. */
  function handClock(): Clock & { moveTo(ms: number): void } {
    let nowMs = 0;
    const due = new Map<symbol, { atMs: number; run: () => void }>();
    return {
      nowMs: () => nowMs,
      after: (delayMs, run) => {
        const key = Symbol('timer');
        due.set(key, { atMs: nowMs + delayMs, run });
        return () => due.delete(key);
      },
      moveTo: (ms) => {
        nowMs = ms;
        for (const [key, timer] of due) {
          if (timer.atMs > ms) continue;
          due.delete(key);
          timer.run();
        }
      },
    };
  }

  test('run when they are due, unless cancelled, and never after the stop', async () => {
    const clock = handClock();
    const timers = new Timers(clock);
    const ran: string[] = [];
    timers.after(10, () => ran.push('first'));
    timers.after(10, () => ran.push('called off'))();
    timers.after(20, () => ran.push('too late'));
    const pause = timers.pause(30).then(() => ran.push('paused'));
    clock.moveTo(10);
    timers.stop();
    timers.after(0, () => ran.push('after the stop'));
    clock.moveTo(100);
    await pause;
    await timers.pause(1_000_000);
    expect(ran).toEqual(['first', 'paused']);
  });
});

describe('a group commit', () => {
  function table(): Database {
    const database = new Database(':memory:');
    database.run('create table t (n integer primary key)');
    return database;
  }

  test('writes the changes of one turn in one transaction, and calls their callbacks before the waiting callers continue', async () => {
    const database = table();
    const commits = new GroupCommit(database, () => undefined);
    const order: string[] = [];
    const insert = database.query('insert into t values (?)');
    const writes = [1, 2, 3].map((n) =>
      commits
        .write(
          () => insert.run(n),
          () => order.push(`committed ${n} of ${database.query('select n from t').all().length}`),
        )
        .then(() => order.push(`waited ${n}`)),
    );
    expect(order).toEqual([]);
    await Promise.all([...writes, commits.settled()]);
    expect(order).toEqual([
      'committed 1 of 3',
      'committed 2 of 3',
      'committed 3 of 3',
      'waited 1',
      'waited 2',
      'waited 3',
    ]);
    database.close();
  });

  test('that fails keeps no change of its group, accepts no more changes, and reports the failure once', async () => {
    const database = table();
    const failures: StoreError[] = [];
    const commits = new GroupCommit(database, (error) => failures.push(error));
    const insert = database.query('insert into t values (?)');
    const write = (n: number) =>
      commits.write(
        () => insert.run(n),
        () => failures.length,
      );
    const results = await Promise.allSettled([write(1), write(1), commits.settled()]);
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    await expect(write(2)).rejects.toThrow(StoreError);
    expect(failures).toHaveLength(1);
    expect(database.query('select n from t').all()).toEqual([]);
    database.close();
  });

  test('that is closed commits the waiting changes', async () => {
    const database = table();
    const commits = new GroupCommit(database, () => undefined);
    const insert = database.query('insert into t values (?)');
    const written = commits.write(
      () => insert.run(1),
      () => undefined,
    );
    commits.close();
    expect(database.query('select n from t').all()).toEqual([{ n: 1 }]);
    await written;
    await expect(commits.settled()).rejects.toThrow('closed');
    database.close();
  });
});
