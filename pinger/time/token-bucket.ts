/** A bucket of tokens that fills with time: so many at once and so many a second, and no more. */
export class TokenBucket {
  readonly #burst: number;
  readonly #monotonic: () => number;
  #tokens: number;
  #filledMs: number;

  /** `burst`: most tokens that wait. `monotonic`: milliseconds of a clock that never jumps. */
  constructor(burst: number, monotonic: () => number) {
    this.#burst = burst;
    this.#monotonic = monotonic;
    this.#tokens = burst;
    this.#filledMs = monotonic();
  }

  /** Takes a token, where there is one. `perMs`: how many come in a millisecond. */
  tryTake(perMs: number): boolean {
    const nowMs = this.#monotonic();
    this.#tokens = Math.min(this.#burst, this.#tokens + (nowMs - this.#filledMs) * perMs);
    this.#filledMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
