import { describe, expect, test } from 'bun:test';
import { Arrivals, MAX_ARRIVALS_PER_TURN, MAX_CONCURRENT_ARRIVALS } from '../../../device-sim/customers/arrivals.ts';
import type { Clock } from '../../../device-sim/environment/clock.ts';
import { Random } from '../../../device-sim/environment/random.ts';
import { Timers } from '../../../device-sim/environment/timers.ts';

/** `rush-hour` with 10,000 units: 40 customers a minute at each. */
const RUSH_HOUR_PER_MINUTE = 400_000;
const MINUTE_MS = 60_000;

/** A clock that the test moves. Like the timers of the runtime, it runs no callback before a whole millisecond has passed. */
class SteppedClock implements Clock {
  #nowMs = 1_000_000;
  readonly #due = new Map<symbol, { atMs: number; run: () => void }>();

  nowMs = () => this.#nowMs;

  after = (delayMs: number, run: () => void) => {
    const key = Symbol('timer');
    this.#due.set(key, { atMs: this.#nowMs + Math.max(1, Math.floor(delayMs)), run });
    return () => this.#due.delete(key);
  };

  /** Moves the clock in steps, and runs after each what is due then. */
  async advance(ms: number, stepMs = 1): Promise<void> {
    for (const endMs = this.#nowMs + ms; this.#nowMs < endMs; ) {
      this.#nowMs += stepMs;
      for (const [key, { atMs, run }] of [...this.#due]) {
        if (atMs > this.#nowMs) continue;
        this.#due.delete(key);
        run();
      }
      await Promise.resolve();
    }
  }
}

function scheduler(begin: () => Promise<void> = async () => undefined) {
  const clock = new SteppedClock();
  const timers = new Timers(clock);
  let begun = 0;
  const arrivals = new Arrivals({
    timers,
    random: new Random(1, 'arrivals'),
    begin: () => {
      begun += 1;
      return begin();
    },
  });
  return { clock, arrivals, begun: () => begun };
}

describe('arrivals', () => {
  // The number of arrivals of a Poisson process is within five standard deviations of its mean but once in a million seeds.
  const rates = [
    { perMinute: 6, ms: 30 * MINUTE_MS, stepMs: 50 },
    { perMinute: 60_000, ms: 10_000, stepMs: 1 },
    { perMinute: RUSH_HOUR_PER_MINUTE, ms: 10_000, stepMs: 1 },
    { perMinute: RUSH_HOUR_PER_MINUTE, ms: 10_000, stepMs: 25 },
  ];
  for (const { perMinute, ms, stepMs } of rates) {
    test(`reach ${perMinute} a minute, also when timers are ${stepMs} ms late`, async () => {
      const { clock, arrivals, begun } = scheduler();
      arrivals.setRate(perMinute);
      await clock.advance(ms, stepMs);
      const asked = (perMinute * ms) / MINUTE_MS;
      expect(Math.abs(begun() - asked)).toBeLessThan(5 * Math.sqrt(asked));
      expect(arrivals.reached()).toEqual({ asked: expect.closeTo(asked, 6), begun: begun(), elapsedMs: ms });
    });
  }

  test('that a blocked process has missed begin in turns of a bounded number', async () => {
    const { clock, arrivals, begun } = scheduler();
    arrivals.setRate(RUSH_HOUR_PER_MINUTE);
    await clock.advance(2_000, 2_000);
    expect(begun()).toBe(MAX_ARRIVALS_PER_TURN);
    await clock.advance(20);
    const asked = (RUSH_HOUR_PER_MINUTE * 2_020) / MINUTE_MS;
    expect(Math.abs(begun() - asked)).toBeLessThan(5 * Math.sqrt(asked));
  });

  test('wait while as many as allowed have not rented yet, and the report shows the rate that is missing', async () => {
    const rented = Promise.withResolvers<void>();
    const { clock, arrivals, begun } = scheduler(() => rented.promise);
    arrivals.setRate(RUSH_HOUR_PER_MINUTE);
    await clock.advance(3_000);
    expect(begun()).toBe(MAX_CONCURRENT_ARRIVALS);
    expect(arrivals.reached()).toEqual({
      asked: expect.closeTo(20_000, 6),
      begun: MAX_CONCURRENT_ARRIVALS,
      elapsedMs: 3_000,
    });
    rented.resolve();
    await clock.advance(100);
    expect(begun()).toBeGreaterThan(19_000);
  });

  test('follow a changed rate at once, and end with rate 0 and with stop', async () => {
    const { clock, arrivals, begun } = scheduler();
    arrivals.setRate(1);
    await clock.advance(1);
    arrivals.setRate(RUSH_HOUR_PER_MINUTE);
    await clock.advance(10);
    expect(begun()).toBeGreaterThan(30);
    arrivals.setRate(0);
    const before = begun();
    await clock.advance(5 * MINUTE_MS, 1_000);
    expect(begun()).toBe(before);
    arrivals.setRate(RUSH_HOUR_PER_MINUTE);
    await clock.advance(5);
    arrivals.stop();
    const atStop = begun();
    expect(atStop).toBeGreaterThan(before);
    await clock.advance(100);
    expect(begun()).toBe(atStop);
  });
});
