/** The pinger's counters: totals since the start, rates and schedule lag over the last half minute. */

import { LagHistogram } from './lag-histogram.ts';

const WINDOW_MS = 1_000;
/** Windows of one second that rates and lags cover. */
const MAX_WINDOWS = 30;

export const COUNTER_NAMES = [
  'pings',
  'answered',
  'missed',
  'forged',
  'late',
  'duplicate',
  'malformed',
  'unsent',
  'discarded',
  'retries',
  'skippedSlots',
  'clockJumps',
  'heartbeats',
  'unreadableHeartbeats',
] as const;
export type CounterName = (typeof COUNTER_NAMES)[number];

/** What was counted in one second of the monotonic clock. */
interface Window {
  readonly second: number;
  readonly counts: Record<CounterName, number>;
  readonly lags: LagHistogram;
}

export class PingCounters {
  readonly #monotonic: () => number;
  readonly #startedMs: number;
  readonly #totals = zeroCounts();
  #windows: Window[] = [];

  /** `monotonic`: milliseconds of the monotonic clock. */
  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
    this.#startedMs = monotonic();
  }

  increment(name: CounterName, by = 1): void {
    this.#totals[name] += by;
    this.#currentWindow().counts[name] += by;
  }

  /** Records by how much a ping left after its scheduled time. */
  recordLag(lagMs: number): void {
    this.#currentWindow().lags.record(lagMs);
  }

  get totals(): Readonly<Record<CounterName, number>> {
    return { ...this.#totals };
  }

  /** Counts per second over the last `MAX_WINDOWS` seconds, or since the start when that is shorter. */
  rates(): Record<CounterName, number> {
    const sums = zeroCounts();
    for (const { counts } of this.#recentWindows()) for (const name of COUNTER_NAMES) sums[name] += counts[name];
    const seconds = Math.min(MAX_WINDOWS, Math.max(1, (this.#monotonic() - this.#startedMs) / WINDOW_MS));
    for (const name of COUNTER_NAMES) sums[name] /= seconds;
    return sums;
  }

  /** The schedule lag over the last `MAX_WINDOWS` seconds. */
  lagMs(): { readonly p99: number; readonly max: number } {
    const recent = LagHistogram.merge(this.#recentWindows().map(({ lags }) => lags));
    return { p99: recent.percentileMs(99), max: recent.maxMs };
  }

  #recentWindows(): Window[] {
    const oldest = this.#second() - MAX_WINDOWS;
    this.#windows = this.#windows.filter(({ second }) => second > oldest);
    return this.#windows;
  }

  #currentWindow(): Window {
    const second = this.#second();
    const last = this.#windows.at(-1);
    if (last?.second === second) return last;
    const window = { second, counts: zeroCounts(), lags: new LagHistogram() };
    this.#recentWindows().push(window);
    return window;
  }

  #second(): number {
    return Math.floor(this.#monotonic() / WINDOW_MS);
  }
}

function zeroCounts(): Record<CounterName, number> {
  return Object.fromEntries(COUNTER_NAMES.map((name) => [name, 0])) as Record<CounterName, number>;
}
