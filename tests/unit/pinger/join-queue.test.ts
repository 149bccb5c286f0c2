import { describe, expect, test } from 'bun:test';
import { JoinQueue } from '../../../pinger/schedule/join-queue.ts';

const MAX_PINGS_PER_TICK = 100;

describe('the join queue', () => {
  test('pings a unit at once and four more times, ten ticks apart', () => {
    const queue = new JoinQueue();
    queue.add('a');
    const ticks: number[] = [];
    for (let tick = 100; tick < 300; tick += 1) for (const _ of queue.takeDue(tick)) ticks.push(tick);
    expect(ticks).toEqual([100, 110, 120, 130, 140]);
  });

  test('stops when the unit is removed because it answered', () => {
    const queue = new JoinQueue();
    queue.add('a');
    expect(queue.takeDue(1)).toEqual(['a']);
    queue.remove('a');
    expect(queue.takeDue(100)).toEqual([]);
  });

  test('pings at most a hundred units in a tick, and reaches every unit', () => {
    const queue = new JoinQueue();
    const units = Array.from({ length: 1_000 }, (_, index) => `u-${index}`);
    for (const unit of units) queue.add(unit);
    const pinged: string[] = [];
    for (let tick = 0; tick < 10; tick += 1) {
      const due = queue.takeDue(tick);
      expect(due.length).toBeLessThanOrEqual(MAX_PINGS_PER_TICK);
      pinged.push(...due);
    }
    expect(pinged.toSorted()).toEqual(units.toSorted());
  });
});
