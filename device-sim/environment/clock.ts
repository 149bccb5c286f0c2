/** Time as a dependency: the simulator reads the time and sets timers only through a `Clock`, so that tests can move it. */

export interface Clock {
  /** Milliseconds since 1970. */
  nowMs(): number;
  /** Runs a callback once after a delay in milliseconds. The function that it returns cancels the timer. */
  after(delayMs: number, run: () => void): () => void;
}

/** The clock of the machine with the timers of the runtime. `main.ts` and `cli.ts` pass `Date.now`. */
export function systemClock(nowMs: () => number): Clock {
  return {
    nowMs,
    after: (delayMs, run) => {
      const timer = setTimeout(run, delayMs);
      return () => clearTimeout(timer);
    },
  };
}
