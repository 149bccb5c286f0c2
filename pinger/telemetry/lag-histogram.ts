/** How late pings were, as a histogram: no list of them is kept. */

const BIN_MS = 0.1;
const BINS = 1_000;

export class LagHistogram {
  readonly #bins = new Uint32Array(BINS + 1);
  #count = 0;
  #maxMs = 0;

  record(lagMs: number): void {
    const bin = Math.min(BINS, Math.floor(lagMs / BIN_MS));
    this.#bins[bin] = (this.#bins[bin] ?? 0) + 1;
    this.#count += 1;
    this.#maxMs = Math.max(this.#maxMs, lagMs);
  }

  /** The percentile and the maximum of several, joined; 0 of none. To a tenth of a millisecond, above a tenth of a second the maximum. */
  static join(all: readonly LagHistogram[], percentile: number): { percentileMs: number; maxMs: number } {
    const maxMs = all.reduce((max, lags) => Math.max(max, lags.#maxMs), 0);
    let rest = all.reduce((sum, lags) => sum + lags.#count, 0) * (1 - percentile / 100);
    for (let bin = BINS; bin >= 0; bin -= 1) {
      for (const lags of all) rest -= lags.#bins[bin] ?? 0;
      if (rest < 0) return { percentileMs: bin === BINS ? maxMs : Math.min(maxMs, (bin + 1) * BIN_MS), maxMs };
    }
    return { percentileMs: 0, maxMs };
  }
}
