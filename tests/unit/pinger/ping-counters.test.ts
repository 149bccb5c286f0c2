import { describe, expect, test } from 'bun:test';
import { PingCounters } from '../../../pinger/telemetry/ping-counters.ts';

describe('the ping counters', () => {
  test('report totals, and rates and schedule lag over the last half minute', () => {
    let nowMs = 0;
    const counters = new PingCounters(() => nowMs);
    for (; nowMs < 100_000; nowMs += 100) {
      counters.increment('pings', 2);
      counters.recordLag(nowMs === 95_000 ? 40 : 1);
    }
    counters.recordLag(3);
    expect(counters.totals.pings).toBe(2_000);
    // The second at 100 s has only begun, so 29 full seconds of 20 pings are in the window of 30 s.
    expect(counters.rates().pings).toBeCloseTo((29 * 20) / 30, 1);
    expect(counters.lagMs()).toEqual({ p99: 1, max: 40 });
    nowMs += 60_000;
    expect(counters.rates().pings).toBe(0);
    expect(counters.lagMs()).toEqual({ p99: 0, max: 0 });
    expect(counters.totals.pings).toBe(2_000);
  });

  test('compute the rate since the start during the first half minute', () => {
    let nowMs = 5_000;
    const counters = new PingCounters(() => nowMs);
    counters.increment('answered', 50);
    nowMs += 1_000;
    expect(counters.rates().answered).toBe(50);
  });

  test.each([
    [0, 0.001],
    [0.25, 0.25],
    [12.34, 12.34],
    [250, 250],
    [3_000_000, 60_000],
  ])('report a lag of %d ms as %d ms, to three digits and within 1 µs and 60 s', (lagMs, reportedMs) => {
    const counters = new PingCounters(() => 0);
    counters.recordLag(lagMs);
    const { p99, max } = counters.lagMs();
    expect(Math.abs(p99 / reportedMs - 1)).toBeLessThan(0.001);
    expect(Math.abs(max / reportedMs - 1)).toBeLessThan(0.001);
  });
});
