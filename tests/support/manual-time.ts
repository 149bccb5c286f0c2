interface Sleeper {
  readonly dueMs: number;
  readonly wake: () => void;
}

/** A clock that stands still until a test moves it, and pauses that end by it. */
export class ManualTime {
  #nowMs = 0;
  readonly #sleepers = new Set<Sleeper>();

  readonly monotonic = (): number => this.#nowMs;

  /** Ends when the clock has come so far, or with the signal. */
  readonly pause = (ms: number, until: AbortSignal): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = () => resolve();
    const sleeper = { dueMs: this.#nowMs + ms, wake };
    this.#sleepers.add(sleeper);
    until.addEventListener('abort', wake, { once: true });
    if (until.aborted || ms <= 0) wake();
    return promise.finally(() => {
      this.#sleepers.delete(sleeper);
      until.removeEventListener('abort', wake);
    });
  };

  /** How many pauses have not ended. */
  get pauses(): number {
    return this.#sleepers.size;
  }

  advance(ms: number): void {
    this.#nowMs += ms;
    for (const sleeper of this.#sleepers) {
      if (sleeper.dueMs > this.#nowMs) continue;
      this.#sleepers.delete(sleeper);
      sleeper.wake();
    }
  }
}
