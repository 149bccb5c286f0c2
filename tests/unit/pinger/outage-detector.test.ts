import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { OutageDetector } from '../../../pinger/connectivity/outage-detector.ts';
import { seededRandom } from '../../support/random.ts';

const { seed } = seededRandom();
const T0 = 1_000_000;

function createDetector() {
  let nowMs = T0;
  const detector = new OutageDetector(() => nowMs);
  return { detector, pass: (ms: number) => (nowMs += ms) };
}

describe('the outage detector', () => {
  test('reports no outage while half of the units of a letter are missing', () => {
    const { detector } = createDetector();
    detector.adjustCounts(0xa, 100, 0);
    detector.adjustCounts(0xa, 0, 50);
    expect(detector.isOutage(0xa)).toBe(false);
    expect(detector.outages()).toEqual([]);
    expect(detector.hasOutage).toBe(false);
  });

  test('reports an outage of a letter, and of no other, when more than half of its units are missing', () => {
    const { detector } = createDetector();
    detector.adjustCounts(0xa, 100, 0);
    detector.adjustCounts(0xb, 900, 1);
    detector.adjustCounts(0xa, 0, 51);
    expect(detector.isOutage(0xa)).toBe(true);
    expect(detector.isOutage(0xb)).toBe(false);
    expect(detector.hasOutage).toBe(true);
    expect(detector.outages()).toEqual([{ letter: 'a', since: T0, share: 0.51 }]);
  });

  test('reports no outage when all of 19 units are missing, and one when all of 20 are', () => {
    const { detector } = createDetector();
    detector.adjustCounts(0xa, 19, 19);
    expect(detector.isOutage(0xa)).toBe(false);
    detector.adjustCounts(0xa, 1, 1);
    expect(detector.isOutage(0xa)).toBe(true);
  });

  test('reports an outage of all letters with missing units when too many of the fleet are missing', () => {
    const { detector } = createDetector();
    for (const letter of '0123456789') detector.adjustCounts(Number(letter), 3, 2);
    detector.adjustCounts(0xa, 5, 0);
    expect(detector.outages().map(({ letter }) => letter)).toEqual([...'0123456789']);
    expect(detector.isOutage(0xa)).toBe(false);
  });

  test('ends an outage when a quarter is missing, and begins the next one with a new time', () => {
    const { detector, pass } = createDetector();
    detector.adjustCounts(0xa, 100, 60);
    pass(5_000);
    detector.adjustCounts(0xa, 0, -30);
    expect(detector.outages()).toEqual([{ letter: 'a', since: T0, share: 0.3 }]);
    detector.adjustCounts(0xa, 0, -5);
    expect(detector.isOutage(0xa)).toBe(false);
    detector.adjustCounts(0xa, 0, 40);
    expect(detector.outages()).toMatchObject([{ since: T0 + 5_000 }]);
  });

  test('begins and ends outages by the shares and minimums, for any sequence of counts', () => {
    const step = fc.record({ online: fc.integer({ min: 0, max: 200 }), missing: fc.integer({ min: 0, max: 200 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 50 }), (steps) => {
        const { detector } = createDetector();
        let [online, missing, isOutage] = [0, 0, false];
        for (const next of steps) {
          const nextMissing = Math.min(next.missing, next.online);
          detector.adjustCounts(7, next.online - online, nextMissing - missing);
          [online, missing] = [next.online, nextMissing];
          isOutage = isOutage ? missing >= 10 && missing > online / 4 : missing >= 20 && missing > online / 2;
          expect(detector.isOutage(7)).toBe(isOutage);
        }
      }),
      { seed },
    );
  });
});
