/** What was counted lately: sums of the last seconds, and how late pings were in them. */

import { Lags } from './lag.ts';

const BUCKET_MS = 1_000;
/** Seconds that are looked back on. */
const MAX_BUCKETS = 30;

export const COUNTED = [
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
export type Counted = (typeof COUNTED)[number];

interface Bucket {
  readonly second: number;
  readonly counts: Record<Counted, number>;
  readonly lags: Lags;
}

export class Meter {
  readonly #monotonic: () => number;
  readonly #startedMs: number;
  readonly #totals = zeros();
  #buckets: Bucket[] = [];

  /** `monotonic`: milliseconds of a clock that never jumps. */
  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
    this.#startedMs = monotonic();
  }

  count(what: Counted, by = 1): void {
    this.#totals[what] += by;
    this.#bucket().counts[what] += by;
  }

  /** A ping left so late after its instant. */
  lag(lagMs: number): void {
    this.#bucket().lags.add(lagMs);
  }

  get totals(): Readonly<Record<Counted, number>> {
    return { ...this.#totals };
  }

  /** Per second, over the last `MAX_BUCKETS` seconds. */
  rates(): Record<Counted, number> {
    const sums = zeros();
    for (const { counts } of this.#recent()) for (const what of COUNTED) sums[what] += counts[what];
    const seconds = Math.min(MAX_BUCKETS, Math.max(1, (this.#monotonic() - this.#startedMs) / BUCKET_MS));
    for (const what of COUNTED) sums[what] /= seconds;
    return sums;
  }

  /** Over the last `MAX_BUCKETS` seconds. */
  lagMs(): { readonly p99: number; readonly max: number } {
    const recent = this.#recent().map(({ lags }) => lags);
    const { percentileMs, maxMs } = Lags.join(recent, 99);
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
    const bucket = { second, counts: zeros(), lags: new Lags() };
    this.#recent().push(bucket);
    return bucket;
  }

  #second(): number {
    return Math.floor(this.#monotonic() / BUCKET_MS);
  }
}

function zeros(): Record<Counted, number> {
  return Object.fromEntries(COUNTED.map((what) => [what, 0])) as Record<Counted, number>;
}
