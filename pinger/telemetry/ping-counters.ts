/** What was counted lately: sums of the last seconds, and how late pings were in them. */

import { LagHistogram } from './lag-histogram.ts';

const BUCKET_MS = 1_000;
/** Seconds that are looked back on. */
const MAX_BUCKETS = 30;

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

interface Bucket {
  readonly second: number;
  readonly counts: Record<CounterName, number>;
  readonly lags: LagHistogram;
}

export class PingCounters {
  readonly #monotonic: () => number;
  readonly #startedMs: number;
  readonly #totals = zeros();
  #buckets: Bucket[] = [];

  /** `monotonic`: milliseconds of a clock that never jumps. */
  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
    this.#startedMs = monotonic();
  }

  increment(what: CounterName, by = 1): void {
    this.#totals[what] += by;
    this.#bucket().counts[what] += by;
  }

  /** A ping left so late after its instant. */
  recordLag(lagMs: number): void {
    this.#bucket().lags.record(lagMs);
  }

  get totals(): Readonly<Record<CounterName, number>> {
    return { ...this.#totals };
  }

  /** Per second, over the last `MAX_BUCKETS` seconds. */
  rates(): Record<CounterName, number> {
    const sums = zeros();
    for (const { counts } of this.#recent()) for (const what of COUNTER_NAMES) sums[what] += counts[what];
    const seconds = Math.min(MAX_BUCKETS, Math.max(1, (this.#monotonic() - this.#startedMs) / BUCKET_MS));
    for (const what of COUNTER_NAMES) sums[what] /= seconds;
    return sums;
  }

  /** Over the last `MAX_BUCKETS` seconds. */
  lagMs(): { readonly p99: number; readonly max: number } {
    const recent = this.#recent().map(({ lags }) => lags);
    const { percentileMs, maxMs } = LagHistogram.join(recent, 99);
    return { p99: percentileMs, max: maxMs };
  }

  #recent(): Bucket[] {
    const oldest = this.#second() - MAX_BUCKETS;
    this.#buckets = this.#buckets.filter(({ second }) => second > oldest);
    return this.#buckets;
  }

  #bucket(): Bucket {
    const second = this.#second();
    const last = this.#buckets.at(-1);
    if (last?.second === second) return last;
    const bucket = { second, counts: zeros(), lags: new LagHistogram() };
    this.#recent().push(bucket);
    return bucket;
  }

  #second(): number {
    return Math.floor(this.#monotonic() / BUCKET_MS);
  }
}

function zeros(): Record<CounterName, number> {
  return Object.fromEntries(COUNTER_NAMES.map((what) => [what, 0])) as Record<CounterName, number>;
}
