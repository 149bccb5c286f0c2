/** What passes by itself is waited out, with bounded pauses; everything else ends the process. */

import { StoreUnavailableError } from '../event-store/store.ts';
import { NatsUnavailableError } from '../nats/connection.ts';
import type { Log } from '../observability/log.ts';
import { PostgresUnavailableError } from '../postgres/connection.ts';
import { type BackoffBounds, backoffMs } from './backoff.ts';

const RETRY_BACKOFF: BackoffBounds = { firstMs: 100, maxMs: 5_000 };
/** The first failures of a row are logged, then one in so many. */
const LOGGED_FAILURES = 3;
const LOG_EVERY_FAILURES = 20;

export interface Patience {
  readonly signal: AbortSignal;
  /** Resolves after some time, or at once when the process stops. */
  readonly sleep: (ms: number) => Promise<unknown>;
  readonly log: Log;
}

export function mayPass(error: unknown): boolean {
  return (
    error instanceof PostgresUnavailableError ||
    error instanceof StoreUnavailableError ||
    error instanceof NatsUnavailableError
  );
}

/** Counts failures in a row and pauses after each, longer every time. */
export class Retries {
  readonly #what: string;
  readonly #patience: Patience;
  #inARow = 0;

  constructor(what: string, patience: Patience) {
    this.#what = what;
    this.#patience = patience;
  }

  async failed(error: unknown): Promise<void> {
    const { log, sleep } = this.#patience;
    this.#inARow += 1;
    const isLogged = this.#inARow <= LOGGED_FAILURES || this.#inARow % LOG_EVERY_FAILURES === 0;
    if (isLogged) log.warn(`${this.#what} failed, trying again`, { error, failures: this.#inARow });
    await sleep(backoffMs(this.#inARow, RETRY_BACKOFF));
  }

  succeeded(): void {
    if (this.#inARow > 0) this.#patience.log.info(`${this.#what} works again`, { failures: this.#inARow });
    this.#inARow = 0;
  }
}

/** Tries until it works or the process stops. @throws what does not pass by itself; the last failure when stopped */
export async function untilItWorks<T>(what: string, patience: Patience, work: () => Promise<T>): Promise<T> {
  const retries = new Retries(what, patience);
  for (;;) {
    try {
      const result = await work();
      retries.succeeded();
      return result;
    } catch (error) {
      if (!mayPass(error) || patience.signal.aborted) throw error;
      await retries.failed(error);
    }
  }
}
