import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { FLAP_DECAY_MS, FLAPPING_FROM, FlapDamper } from '../../../pinger/connectivity/flap-damper.ts';
import {
  MIN_OUTAGE_END_UNITS,
  MIN_OUTAGE_UNITS,
  OUTAGE_END_SHARE,
  OUTAGE_SHARE,
  OutageDetector,
} from '../../../pinger/connectivity/outage-detector.ts';
import { seededRandom } from '../../support/random.ts';

const { seed } = seededRandom();
const T0 = 1_000_000;

describe('units that vanish', () => {
  function world() {
    let nowMs = T0;
    const vanishing = new OutageDetector(() => nowMs);
    return { vanishing, pass: (ms: number) => (nowMs += ms) };
  }

  test('few of many are themselves', () => {
    const { vanishing } = world();
    vanishing.adjustCounts(0xa, 100, 0);
    vanishing.adjustCounts(0xa, 0, 50);
    expect(vanishing.isOutage(0xa)).toBe(false);
    expect(vanishing.outages()).toEqual([]);
  });

  test('more than half of a shard are us, and only there', () => {
    const { vanishing } = world();
    vanishing.adjustCounts(0xa, 100, 0);
    vanishing.adjustCounts(0xb, 900, 1);
    vanishing.adjustCounts(0xa, 0, 51);
    expect(vanishing.isOutage(0xa)).toBe(true);
    expect(vanishing.isOutage(0xb)).toBe(false);
    expect(vanishing.outages()).toEqual([{ letter: 'a', since: T0, share: 0.51 }]);
  });

  test('all of a small fleet are themselves', () => {
    const { vanishing } = world();
    vanishing.adjustCounts(0xa, MIN_OUTAGE_UNITS - 1, MIN_OUTAGE_UNITS - 1);
    expect(vanishing.isOutage(0xa)).toBe(false);
  });

  test('too many in all are us wherever one is missing, though no shard alone has enough', () => {
    const { vanishing } = world();
    for (const letter of '0123456789') vanishing.adjustCounts(Number(letter), 3, 2);
    vanishing.adjustCounts(0xa, 5, 0);
    expect(vanishing.outages().map(({ letter }) => letter)).toEqual([...'0123456789']);
    expect(vanishing.isOutage(0xa)).toBe(false);
  });

  test('an outage lasts until most are back, and tells since when', () => {
    const { vanishing, pass } = world();
    vanishing.adjustCounts(0xa, 100, 60);
    pass(5_000);
    vanishing.adjustCounts(0xa, 0, -30);
    expect(vanishing.outages()).toEqual([{ letter: 'a', since: T0, share: 0.3 }]);
    vanishing.adjustCounts(0xa, 0, -5);
    expect(vanishing.isOutage(0xa)).toBe(false);
    // The next one begins anew.
    vanishing.adjustCounts(0xa, 0, 40);
    expect(vanishing.outages()).toMatchObject([{ since: T0 + 5_000 }]);
  });

  test('begin and end by the shares, whatever comes and goes', () => {
    const step = fc.record({ online: fc.integer({ min: 0, max: 200 }), missing: fc.integer({ min: 0, max: 200 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 50 }), (steps) => {
        const { vanishing } = world();
        let [online, missing, isOut] = [0, 0, false];
        for (const next of steps) {
          const wanted = Math.min(next.missing, next.online);
          vanishing.adjustCounts(7, next.online - online, wanted - missing);
          [online, missing] = [next.online, wanted];
          isOut = isOut
            ? missing >= MIN_OUTAGE_END_UNITS && missing > OUTAGE_END_SHARE * online
            : missing >= MIN_OUTAGE_UNITS && missing > OUTAGE_SHARE * online;
          expect(vanishing.isOutage(7)).toBe(isOut);
        }
      }),
      { seed },
    );
  });
});

describe('a unit that flaps', () => {
  function world() {
    let nowMs = T0;
    const flapping = new FlapDamper(() => nowMs);
    return { flapping, pass: (ms: number) => (nowMs += ms) };
  }

  test('is given more time with each time that it went offline', () => {
    const { flapping } = world();
    const needed: number[] = [];
    for (let time = 1; time <= 8; time += 1) {
      flapping.recordOffline('u');
      needed.push(flapping.failuresToOffline('u', 3));
    }
    expect(needed).toEqual([3, 3, 6, 12, 24, 24, 24, 24]);
    expect(flapping.failuresToOffline('other', 3)).toBe(3);
    expect(flapping.count).toBe(1);
  });

  test('is as others when it has stayed for long enough', () => {
    const { flapping, pass } = world();
    for (let time = 1; time <= FLAPPING_FROM; time += 1) flapping.recordOffline('u');
    expect(flapping.isFlapping('u')).toBe(true);
    pass(FLAP_DECAY_MS);
    expect(flapping.isFlapping('u')).toBe(false);
    expect(flapping.failuresToOffline('u', 3)).toBe(3);
    pass(FLAPPING_FROM * FLAP_DECAY_MS);
    expect(flapping.count).toBe(0);
  });

  test('is forgotten when it leaves', () => {
    const { flapping } = world();
    for (let time = 1; time <= FLAPPING_FROM; time += 1) flapping.recordOffline('u');
    flapping.forget('u');
    expect(flapping.isFlapping('u')).toBe(false);
  });
});
