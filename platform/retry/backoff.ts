/** Bounds of an exponential backoff, in milliseconds. */
export interface BackoffBounds {
  readonly firstMs: number;
  readonly maxMs: number;
}

/** A crashed child comes back at once for an eye, and a child that always crashes costs nothing. */
export const RESTART_BACKOFF: BackoffBounds = { firstMs: 100, maxMs: 10_000 };

/**
 * How long to wait before the next start.
 * @param crashesInARow how often it has crashed without having been stable in between, from 1.
 * @returns `firstMs`, doubled with every further crash, at most `maxMs`.
 */
export function backoffMs(crashesInARow: number, bounds: BackoffBounds): number {
  const doublings = Math.max(0, Math.floor(crashesInARow) - 1);
  return Math.min(bounds.maxMs, bounds.firstMs * 2 ** doublings);
}
