/** A token bucket: limits an action to a burst and a sustained rate. */
export class TokenBucket {
  readonly #burst: number;
  readonly #monotonic: () => number;
  #tokens: number;
  #filledMs: number;

  /** `burst`: the capacity in tokens; the bucket starts full. `monotonic`: milliseconds of the monotonic clock. */
  constructor(burst: number, monotonic: () => number) {
    this.#burst = burst;
    this.#monotonic = monotonic;
    this.#tokens = burst;
    this.#filledMs = monotonic();
  }

  /**
   * Refills the bucket for the time since the last call, then takes one token.
   * @param perMs the refill rate, in tokens per millisecond
   * @returns whether a token was available
   */
  tryTake(perMs: number): boolean {
    const nowMs = this.#monotonic();
    this.#tokens = Math.min(this.#burst, this.#tokens + (nowMs - this.#filledMs) * perMs);
    this.#filledMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
