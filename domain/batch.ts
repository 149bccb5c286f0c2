/** The batch in which a unit's log travels, pushed or fetched, and the place of an event in that log. */

import { type Static, Type } from '@sinclair/typebox';
import { Instant, LockerId, UnitName, Uuid } from './vocabulary.ts';

/** Most events in one batch. */
export const MAX_BATCH_EVENTS = 500;
/** Most bytes of one batch as JSON. */
export const MAX_BATCH_BYTES = 256 * 1024;

export const BatchEvent = Type.Object({
  seq: Type.Integer({ minimum: 1, description: 'counts from 1 without gaps in an epoch' }),
  v: Type.Integer({ minimum: 1, description: 'version of the schema of the type' }),
  type: Type.String({ minLength: 1, maxLength: 100 }),
  time: Instant,
  locker: Type.Optional(LockerId),
  offline: Type.Optional(Type.Boolean({ description: 'the unit was cut off when it happened' })),
  causationId: Type.Optional(Type.String({ maxLength: 200, description: 'the commandId that caused it' })),
  data: Type.Record(Type.String(), Type.Unknown()),
});
export type BatchEvent = Static<typeof BatchEvent>;

/** The head of a batch. Its events are checked one by one, so that one bad event does not take the others with it. */
export const BatchHead = Type.Object({
  unit: UnitName,
  epoch: Uuid,
  events: Type.Array(Type.Unknown(), { maxItems: MAX_BATCH_EVENTS }),
});

export interface UnitBatch {
  readonly unit: string;
  /** UUIDv7 made when the unit's store was created or wiped. */
  readonly epoch: string;
  readonly events: readonly BatchEvent[];
}

/** What a unit answers to `GET /events`. */
export interface FetchedBatch extends UnitBatch {
  /** The oldest seq that the unit still has, 1 if it never deleted any. */
  readonly firstAvailableSeq: number;
  readonly lastSeq: number;
  readonly more: boolean;
}

/** `UNIT/EPOCH/SEQ`, the id of an event that a unit reported. */
export function deviceEventId(unit: string, epoch: string, seq: number): string {
  return `${unit}/${epoch}/${seq}`;
}
