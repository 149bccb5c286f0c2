import { setTimeout as sleep } from 'node:timers/promises';

export interface RetryOptions {
  /** @default 30_000 */
  readonly timeoutMs?: number;
  /** @default 20 */
  readonly intervalMs?: number;
}

/** Far longer than anything takes on a loaded machine: only a failing test waits so long. */
const TIMEOUT_MS = 30_000;
const INTERVAL_MS = 20;

/**
 * Repeats `attempt` until it neither throws nor returns `false`.
 * @returns the value of the successful attempt.
 * @throws at the deadline, with the error or value of the last attempt, also when that attempt hangs.
 */
export async function eventually<T>(
  attempt: () => T | false | Promise<T | false>,
  { timeoutMs = TIMEOUT_MS, intervalMs = INTERVAL_MS }: RetryOptions = {},
): Promise<T> {
  const over = Promise.withResolvers<never>();
  let last: unknown = 'the first attempt has not ended';
  const deadline = setTimeout(() => over.reject(new NeverHappenedError(timeoutMs, last)), timeoutMs);
  try {
    for (;;) {
      try {
        const value = await Promise.race([attempt(), over.promise]);
        if (value !== false) return value;
        last = 'it returned false';
      } catch (error) {
        if (error instanceof NeverHappenedError) throw error;
        last = error;
      }
      await Promise.race([sleep(intervalMs), over.promise]);
    }
  } finally {
    clearTimeout(deadline);
  }
}

/** The attempt did not succeed before the deadline. */
export class NeverHappenedError extends Error {
  override readonly name = 'NeverHappenedError';

  constructor(timeoutMs: number, last: unknown) {
    super(`not within ${timeoutMs} ms; at last: ${last instanceof Error ? last.message : String(last)}`, {
      cause: last,
    });
  }
}
