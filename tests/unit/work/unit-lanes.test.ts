import { describe, expect, test } from 'bun:test';
import { UnitLanes } from '../../../platform/nats/unit-lanes.ts';

/** Starts messages until no place is free. */
function startAll(lanes: UnitLanes<string>): string[] {
  const started: string[] = [];
  for (let next = lanes.start(); next !== undefined; next = lanes.start()) started.push(next);
  return started;
}

describe('lanes of units', () => {
  test('run a bounded number of messages, and of each unit a smaller number', () => {
    const lanes = new UnitLanes<string>({ maxRunning: 5, maxRunningPerUnit: 2 });
    for (let n = 1; n <= 9; n += 1) lanes.add('A', `a${n}`);
    for (const unit of ['B', 'C', 'D', 'E']) lanes.add(unit, unit);
    expect(startAll(lanes)).toEqual(['a1', 'B', 'C', 'D', 'E']);
    lanes.end('B');
    expect(startAll(lanes)).toEqual(['a2']);
    lanes.end('C');
    expect(startAll(lanes)).toEqual([]);
    lanes.end('A');
    expect(startAll(lanes)).toEqual(['a3']);
    expect(lanes.countOf('A')).toBe(8);
  });

  test('let units take turns, however many messages one of them has', () => {
    const lanes = new UnitLanes<string>({ maxRunning: 1, maxRunningPerUnit: 1 });
    for (let n = 1; n <= 600; n += 1) lanes.add('A', 'a');
    lanes.add('B', 'b');
    const order: string[] = [];
    for (let n = 0; n < 4; n += 1) {
      const [started = ''] = startAll(lanes);
      order.push(started);
      lanes.end(started.toUpperCase());
    }
    expect(order).toEqual(['a', 'b', 'a', 'a']);
  });

  test('return the waiting messages of a unit, and not those that run', () => {
    const lanes = new UnitLanes<string>({ maxRunning: 1, maxRunningPerUnit: 1 });
    for (const message of ['a1', 'a2', 'a3']) lanes.add('A', message);
    expect(startAll(lanes)).toEqual(['a1']);
    expect(lanes.removeWaiting('A')).toEqual(['a2', 'a3']);
    expect(lanes.removeWaiting('B')).toEqual([]);
    expect(lanes.countOf('A')).toBe(1);
    lanes.end('A');
    expect(lanes.countOf('A')).toBe(0);
    expect(startAll(lanes)).toEqual([]);
  });
});
