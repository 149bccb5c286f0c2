/** Reads that show the client's own writes: they wait until a read model has reached a position of the event log. */

import { laneOf } from '../../domain/shard.ts';
import type { PositionWaiter } from '../../projections/engine/queries/position-waiter.ts';
import { Problem, RETRY_AFTER_S } from './problems.ts';

/** The longest wait of a read for a position. */
const MIN_POSITION_TIMEOUT_MS = 2_000;

export class ReadPositions {
  readonly #waiter: PositionWaiter;

  constructor(waiter: PositionWaiter) {
    this.#waiter = waiter;
  }

  /**
   * Resolves when a read model has reached `minPosition`: in the lane of `unit`, or in every lane without one.
   * @throws Problem 503 `unavailable` when it has not after `MIN_POSITION_TIMEOUT_MS`
   */
  async reached(readModel: string, minPosition: string | undefined, unit?: string): Promise<void> {
    if (minPosition === undefined) return;
    const isReached = await this.#waiter.waitUntilPassed({
      projections: [readModel],
      lanes: unit === undefined ? 'all' : [laneOf(unit)],
      position: Number.parseInt(minPosition, 10),
      timeoutMs: MIN_POSITION_TIMEOUT_MS,
    });
    if (isReached) return;
    const waitedS = MIN_POSITION_TIMEOUT_MS / 1_000;
    throw new Problem(
      'unavailable',
      503,
      `The read model ${readModel} has not reached position ${minPosition} within ${waitedS} s. Send the request again.`,
      { retryAfterS: RETRY_AFTER_S },
    );
  }
}
