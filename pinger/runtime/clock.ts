/** The two clocks of the pinger: the system clock, which may jump, and the monotonic clock, which never does. */

export interface Clock {
  /** The system clock: milliseconds since 1970. */
  readonly now: () => number;
  /** The monotonic clock: milliseconds since an arbitrary start. */
  readonly monotonic: () => number;
}

export interface PingerClock extends Clock {
  /**
   * Calls `callback` once, after `ms` milliseconds.
   * @returns a function that cancels the call
   */
  readonly after: (ms: number, callback: () => void) => () => void;
}

/** The clocks of this machine. Only the root of a process or of a thread passes them on. */
export const systemClock: PingerClock = {
  now: Date.now,
  monotonic: () => performance.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
};
