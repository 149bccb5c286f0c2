/**
 * The schedule lag: how late pings leave after their scheduled time. An HDR histogram of the runtime with three significant digits:
 * recording allocates nothing, and histograms of several seconds merge without loss.
 */

import { createHistogram } from 'node:perf_hooks';

const US_PER_MS = 1_000;
/** The histogram counts from 1 µs to 60 s; a lag outside of that counts as the nearest bound. */
const LOWEST_US = 1;
const HIGHEST_US = 60_000_000;
const SIGNIFICANT_DIGITS = 3;

export class LagHistogram {
  readonly #histogram = createHistogram({ lowest: LOWEST_US, highest: HIGHEST_US, figures: SIGNIFICANT_DIGITS });

  record(lagMs: number): void {
    this.#histogram.record(Math.min(HIGHEST_US, Math.max(LOWEST_US, Math.round(lagMs * US_PER_MS))));
  }

  /** @returns a new histogram with the records of all `histograms` */
  static merge(histograms: readonly LagHistogram[]): LagHistogram {
    const merged = new LagHistogram();
    for (const each of histograms) merged.#histogram.add(each.#histogram);
    return merged;
  }

  /** `percentile`: 0 to 100. 0 ms when nothing was recorded. */
  percentileMs(percentile: number): number {
    return this.#histogram.percentile(percentile) / US_PER_MS;
  }

  /** 0 ms when nothing was recorded. */
  get maxMs(): number {
    return this.#histogram.max / US_PER_MS;
  }
}
