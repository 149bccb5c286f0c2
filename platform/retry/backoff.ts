/** Bounds of an exponential backoff, in milliseconds. */
export interface BackoffBounds {
  readonly firstMs: number;
  readonly maxMs: number;
}

/** Backoff of a supervisor: a crashed child is restarted within 100 ms, and a child that keeps crashing every 10 s. */
export const RESTART_BACKOFF: BackoffBounds = { firstMs: 100, maxMs: 10_000 };

/**
 * The pause after a failure, by exponential backoff.
 * @param failuresInARow number of failures since the last success, from 1
 * @returns `firstMs`, doubled with every further failure, at most `maxMs`
 */
export function backoffMs(failuresInARow: number, bounds: BackoffBounds): number {
  const doublings = Math.max(0, Math.floor(failuresInARow) - 1);
  return Math.min(bounds.maxMs, bounds.firstMs * 2 ** doublings);
}
