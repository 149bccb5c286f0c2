/**
 * Retries with exponential backoff. An error is retryable when the failure lies in a service that comes back by itself: NATS,
 * the event store or Postgres cannot be reached. Every other error is terminal, and ends the process.
 */

import { StoreUnavailableError } from '../event-store/store.ts';
import { NatsUnavailableError } from '../nats/connection.ts';
import { capitalize } from '../observability/failure-log.ts';
import type { Log } from '../observability/log.ts';
import { PostgresUnavailableError } from '../postgres/connection.ts';
import { type BackoffBounds, backoffMs } from './backoff.ts';

const RETRY_BACKOFF: BackoffBounds = { firstMs: 100, maxMs: 5_000 };
/** Of the failures in a row, the first three are logged, and then every twentieth. */
const LOGGED_FAILURES = 3;
const LOG_EVERY_FAILURES = 20;

/** How a process retries: the first pause is 100 ms, doubles with each failure in a row, and is at most 5 s. */
export interface RetryPolicy {
  /** Aborts when the process stops: the next failure is then the last. */
  readonly signal: AbortSignal;
  /** Resolves after `ms`, or at once when the process stops. */
  readonly sleep: (ms: number) => Promise<unknown>;
  readonly log: Log;
}

export function isRetryable(error: unknown): boolean {
  return (
    error instanceof PostgresUnavailableError ||
    error instanceof StoreUnavailableError ||
    error instanceof NatsUnavailableError
  );
}

/** Exponential backoff for a loop of the caller: counts the failures in a row and waits after each. */
export class RetryBackoff {
  readonly #operation: string;
  readonly #policy: RetryPolicy;
  #inARow = 0;

  /** @param operation a gerund phrase for the log, such as "reading the event store" */
  constructor(operation: string, policy: RetryPolicy) {
    this.#operation = operation;
    this.#policy = policy;
  }

  async waitAfterFailure(error: unknown): Promise<void> {
    const { log, sleep } = this.#policy;
    this.#inARow += 1;
    const isLogged = this.#inARow <= LOGGED_FAILURES || this.#inARow % LOG_EVERY_FAILURES === 0;
    if (isLogged)
      log.warn(`${capitalize(this.#operation)} failed. It is repeated with exponential backoff.`, {
        error,
        failures: this.#inARow,
      });
    await sleep(backoffMs(this.#inARow, RETRY_BACKOFF));
  }

  resetAfterSuccess(): void {
    if (this.#inARow > 0)
      this.#policy.log.info(`${capitalize(this.#operation)} works again.`, { failures: this.#inARow });
    this.#inARow = 0;
  }
}

/**
 * Repeats `work` with exponential backoff until it succeeds or `policy.signal` aborts.
 * @param operation a gerund phrase for the log, such as "migrating the database"
 * @throws the first terminal error; the last error when the signal has aborted
 */
export async function retryWithBackoff<T>(operation: string, policy: RetryPolicy, work: () => Promise<T>): Promise<T> {
  const retries = new RetryBackoff(operation, policy);
  for (;;) {
    try {
      const result = await work();
      retries.resetAfterSuccess();
      return result;
    } catch (error) {
      if (!isRetryable(error) || policy.signal.aborted) throw error;
      await retries.waitAfterFailure(error);
    }
  }
}
