/** The clocks of the pinger: one that tells the time and may jump, and one that never does. */

export interface Clock {
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
}

export interface PingerClock extends Clock {
  /** Calls once after so many milliseconds. Returns the way to stop that. */
  readonly after: (ms: number, run: () => void) => () => void;
}

export const systemClock: PingerClock = {
  now: Date.now,
  monotonic: () => performance.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};

/** The two differ by so much more than at the last look: the system's clock jumped. One that is slewed never differs so fast. */
export const MAX_CLOCK_DRIFT_MS = 500;

/** Sees when the system's clock jumps. */
export class ClockJumpDetector {
  readonly #clock: Clock;
  #offsetMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#offsetMs = clock.now() - clock.monotonic();
  }

  /** By how much the system's clock was ahead of the other one at the last look. */
  get offsetMs(): number {
    return this.#offsetMs;
  }

  /** @returns by how many milliseconds it jumped since the last look; 0 when it did not */
  detectJumpMs(): number {
    const offsetMs = this.#clock.now() - this.#clock.monotonic();
    const jumpMs = offsetMs - this.#offsetMs;
    this.#offsetMs = offsetMs;
    return Math.abs(jumpMs) > MAX_CLOCK_DRIFT_MS ? jumpMs : 0;
  }
}
