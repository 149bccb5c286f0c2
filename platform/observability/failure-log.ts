import type { Log } from './log.ts';

export interface FailureLogOptions {
  /** What is attempted, as a gerund phrase: `reading the ping targets`. */
  readonly operation: string;
  /** What happens while the operation fails, as a sentence: `The pinger keeps the units that it knows and reads again.` */
  readonly consequence: string;
  readonly log: Log;
}

/** Logs when a repeated operation begins to fail and when it succeeds again, but not the failures between. */
export class FailureLog {
  readonly #options: FailureLogOptions;
  #failures = 0;

  constructor(options: FailureLogOptions) {
    this.#options = options;
  }

  recordFailure(error: unknown): void {
    const { operation, consequence, log } = this.#options;
    this.#failures += 1;
    if (this.#failures === 1) log.warn(`${capitalize(operation)} fails. ${consequence}`, { error });
  }

  recordSuccess(): void {
    const { operation, log } = this.#options;
    if (this.#failures > 0) log.info(`${capitalize(operation)} works again.`, { failures: this.#failures });
    this.#failures = 0;
  }
}

export function capitalize(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
