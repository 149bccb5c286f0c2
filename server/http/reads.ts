/** Reads: read your own writes with `minPosition`, and the parameters that lists share. */

import { type TSchema, Type } from '@sinclair/typebox';
import { laneOf } from '../../domain/shard.ts';
import type { PositionWaiter } from '../../projections/engine/queries/position-waiter.ts';
import { Problem, RETRY_AFTER_S } from './problems.ts';

/** Longest wait for a position before a read is refused. */
export const MIN_POSITION_TIMEOUT_MS = 2_000;
export const DEFAULT_LIMIT = 50;
export const MAX_LIMIT = 500;

export const ListQuery = {
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_LIMIT, default: DEFAULT_LIMIT })),
  cursor: Type.Optional(Type.String({ maxLength: 1_000, description: '`nextCursor` of the page before' })),
  count: Type.Optional(Type.Boolean({ description: 'also answer with `total`' })),
};

/** Parameters whose text stands for a number or a truth value; everything else in a query is text. */
const NUMBERS: readonly string[] = ['limit', 'radiusM'];
const TRUTHS: ReadonlyMap<unknown, boolean> = new Map([
  ['true', true],
  ['false', false],
]);

/** Turns those parameters into what they stand for. What stands for nothing stays, for the schema to refuse. */
export function readParameters(query: Record<string, unknown>): void {
  for (const name of NUMBERS) {
    const value = query[name];
    if (typeof value === 'string' && /^-?\d{1,15}$/.test(value)) query[name] = Number(value);
  }
  query.count = TRUTHS.get(query.count) ?? query.count;
  if (query.count === undefined) delete query.count;
}

/** What a list answers. */
export function pageOf<S extends TSchema>(item: S) {
  return Type.Object({
    items: Type.Array(item),
    nextCursor: Type.Union([Type.String(), Type.Null()]),
    total: Type.Optional(Type.Integer()),
  });
}

export const MinPosition = {
  minPosition: Type.Optional(
    Type.String({
      pattern: '^\\d{1,15}(\\.\\d{1,4})?$',
      description: 'wait until this position is shown: the `Lockfleet-Position` of a write',
    }),
  ),
};

export class Reads {
  readonly #positions: PositionWaiter;

  constructor(positions: PositionWaiter) {
    this.#positions = positions;
  }

  /**
   * Waits until a projection shows a position: in the lane of a unit, or in every lane.
   * Throws 503 `unavailable` when it has not come so far within `MIN_POSITION_TIMEOUT_MS`.
   */
  async wait(projection: string, minPosition: string | undefined, unit?: string): Promise<void> {
    if (minPosition === undefined) return;
    const passed = await this.#positions.waitUntilPassed({
      projections: [projection],
      lanes: unit === undefined ? 'all' : [laneOf(unit)],
      position: Number.parseInt(minPosition, 10),
      timeoutMs: MIN_POSITION_TIMEOUT_MS,
    });
    if (passed) return;
    throw new Problem('unavailable', 503, `What is shown has not reached position ${minPosition} yet.`, {
      retryAfterS: RETRY_AFTER_S,
    });
  }
}

/** The header of a write that a client may repeat. */
export const IdempotencyHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({ description: 'the same key and body get the same answer again, for 24 hours' }),
  ),
});
