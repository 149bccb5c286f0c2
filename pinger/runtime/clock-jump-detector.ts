import type { Clock } from './clock.ts';

/** The system clock has jumped when it moves by more than this against the monotonic clock between two checks; slewing is slower. */
export const MAX_CLOCK_DRIFT_MS = 500;

/** Detects jumps of the system clock by comparing it with the monotonic clock. */
export class ClockJumpDetector {
  readonly #clock: Clock;
  #offsetMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#offsetMs = clock.now() - clock.monotonic();
  }

  /** System clock minus monotonic clock at the last check, in milliseconds. */
  get offsetMs(): number {
    return this.#offsetMs;
  }

  /** @returns the jump since the last check in milliseconds, negative when the clock was set back; 0 without a jump */
  detectJumpMs(): number {
    const offsetMs = this.#clock.now() - this.#clock.monotonic();
    const jumpMs = offsetMs - this.#offsetMs;
    this.#offsetMs = offsetMs;
    return Math.abs(jumpMs) > MAX_CLOCK_DRIFT_MS ? jumpMs : 0;
  }
}
