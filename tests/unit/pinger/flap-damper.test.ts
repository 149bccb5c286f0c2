import { describe, expect, test } from 'bun:test';
import { FlapDamper } from '../../../pinger/connectivity/flap-damper.ts';

const UNIT = 0;
const OTHER = 1;
const DECAY_MS = 600_000;

function createDamper() {
  let nowMs = 1_000_000;
  const damper = new FlapDamper(2, () => nowMs);
  return { damper, pass: (ms: number) => (nowMs += ms) };
}

describe('the flap damper', () => {
  test('doubles the misses that a unit needs from the third offline on, three times at most', () => {
    const { damper } = createDamper();
    const needed: number[] = [];
    for (let time = 1; time <= 8; time += 1) {
      damper.recordOffline(UNIT);
      needed.push(damper.failuresToOffline(UNIT, 3));
    }
    expect(needed).toEqual([3, 3, 6, 12, 24, 24, 24, 24]);
    expect(damper.failuresToOffline(OTHER, 3)).toBe(3);
    expect(damper.count).toBe(1);
  });

  test('lets the penalty decay by one in ten minutes', () => {
    const { damper, pass } = createDamper();
    for (let time = 1; time <= 3; time += 1) damper.recordOffline(UNIT);
    expect(damper.isFlapping(UNIT)).toBe(true);
    pass(DECAY_MS);
    expect(damper.isFlapping(UNIT)).toBe(false);
    expect(damper.failuresToOffline(UNIT, 3)).toBe(3);
    damper.recordOffline(UNIT);
    expect(damper.isFlapping(UNIT)).toBe(true);
    pass(3 * DECAY_MS);
    expect(damper.count).toBe(0);
  });

  test('forgets the penalty of a unit that leaves its index', () => {
    const { damper } = createDamper();
    for (let time = 1; time <= 3; time += 1) damper.recordOffline(UNIT);
    damper.reset(UNIT);
    expect(damper.isFlapping(UNIT)).toBe(false);
    expect(damper.count).toBe(0);
  });
});
