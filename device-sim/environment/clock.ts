/** Time as an argument: what the simulator does later, it does by this clock. */

export interface Clock {
  /** Milliseconds since 1970. */
  nowMs(): number;
  /** Runs once after a delay. Returns the way to call it off. */
  after(delayMs: number, run: () => void): () => void;
}

/** What waits on a clock and ends together: nothing runs any more once it was stopped. */
export class Timers {
  readonly #clock: Clock;
  readonly #pending = new Set<{ readonly cancel: () => void; readonly stopped: () => void }>();
  #stopped = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  nowMs(): number {
    return this.#clock.nowMs();
  }

  /** Runs once after a delay, unless it is called off or stopped before. */
  after(delayMs: number, run: () => void): () => void {
    return this.#add(delayMs, run, () => undefined);
  }

  /** Waits. Resolves at once when stopped: whoever waits looks at `stopped` then. */
  pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      if (this.#stopped || delayMs <= 0) resolve();
      else this.#add(delayMs, resolve, resolve);
    });
  }

  stop(): void {
    this.#stopped = true;
    for (const { cancel, stopped } of [...this.#pending]) {
      cancel();
      stopped();
    }
    this.#pending.clear();
  }

  #add(delayMs: number, run: () => void, stopped: () => void): () => void {
    if (this.#stopped) return () => undefined;
    const cancel = this.#clock.after(delayMs, () => {
      this.#pending.delete(entry);
      run();
    });
    const entry = { cancel, stopped };
    this.#pending.add(entry);
    return () => {
      cancel();
      this.#pending.delete(entry);
    };
  }
}

/** The clock of the machine, for `main.ts` and `cli.ts`. */
export function systemClock(nowMs: () => number): Clock {
  return {
    nowMs,
    after: (delayMs, run) => {
      const timer = setTimeout(run, delayMs);
      return () => clearTimeout(timer);
    },
  };
}
