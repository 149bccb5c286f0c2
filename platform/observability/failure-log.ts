import type { Log } from './log.ts';

/** Says once that something fails and once that it works again, however often it is tried between. */
export class FailureLog {
  readonly #what: string;
  readonly #log: Log;
  #failures = 0;

  constructor(what: string, log: Log) {
    this.#what = what;
    this.#log = log;
  }

  recordFailure(error: unknown): void {
    this.#failures += 1;
    if (this.#failures === 1) this.#log.warn(`${this.#what}: fails`, { error });
  }

  recordSuccess(): void {
    if (this.#failures > 0) this.#log.info(`${this.#what}: works again`, { failures: this.#failures });
    this.#failures = 0;
  }
}
