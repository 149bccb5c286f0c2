/** The batch in which a unit's log travels, pushed or fetched, and the place of an event in that log. */

import { type Static, Type } from '@sinclair/typebox';
import { Count, Identifier, Instant, LockerId, MAX_VERSION, Seq, UnitName, Uuid } from '../vocabulary.ts';

/** Bound on the events of one batch. */
export const MAX_BATCH_EVENTS = 500;
/** Bound on the JSON of one batch, in bytes. */
export const MAX_BATCH_BYTES = 256 * 1024;
/** Bound on the JSON of one event, in bytes: a state report of a thousand lockers fits. A larger event is rejected. */
export const MAX_EVENT_BYTES = 240 * 1024;
/** Bound on the nesting of objects and lists in one event. */
export const MAX_EVENT_DEPTH = 32;

export const BatchEvent = Type.Object({
  seq: Type.Integer({ ...Seq, description: 'The number of the event: it counts from 1 without gaps in an epoch.' }),
  v: Type.Integer({ minimum: 1, maximum: MAX_VERSION, description: 'The version of the schema of the type.' }),
  type: Type.String({ pattern: '^[A-Za-z][A-Za-z0-9._-]{0,99}$' }),
  time: Instant,
  locker: Type.Optional(LockerId),
  offline: Type.Optional(Type.Boolean({ description: 'Whether the unit was offline when the event happened.' })),
  causationId: Type.Optional(
    Type.String({ ...Identifier, description: 'The commandId of the command that caused the event.' }),
  ),
  data: Type.Record(Type.String(), Type.Unknown()),
});
export type BatchEvent = Static<typeof BatchEvent>;

const KNOWN_FIELDS: ReadonlySet<string> = new Set(Object.keys(BatchEvent.properties));

/** The fields of an event that this code does not know; `undefined` when it knows all. */
export function unknownFields(event: BatchEvent): Readonly<Record<string, unknown>> | undefined {
  const unknown = Object.entries(event).filter(([name]) => !KNOWN_FIELDS.has(name));
  return unknown.length === 0 ? undefined : Object.fromEntries(unknown);
}

/** The head of a batch. Its events are checked one by one, so that one invalid event does not invalidate the others. */
export const BatchHeader = Type.Object({
  unit: UnitName,
  epoch: Uuid,
  events: Type.Array(Type.Unknown(), { maxItems: MAX_BATCH_EVENTS }),
});
export type BatchHeader = Static<typeof BatchHeader>;

/**
 * The body of a request for a unit's log on its `.commands` subject. `GET /events` carries the same in a query and a header.
 * The scope of the JWS tells it from a command.
 */
export const FetchRequest = Type.Object(
  {
    jws: Type.String({
      maxLength: 8_192,
      description: 'An Ed25519 JWS of {aud, iat, exp, scope: "events", recorded?}.',
    }),
    after: Type.Optional(
      Type.String({
        maxLength: 64,
        description: 'EPOCH:SEQ of the last event that the platform has. Without it, the unit answers from the start.',
      }),
    ),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_BATCH_EVENTS, default: MAX_BATCH_EVENTS })),
  },
  {
    description: 'Asks a unit for a page of its log. The unit may delete only the events up to the signed `recorded`.',
  },
);
export type FetchRequest = Static<typeof FetchRequest>;

/** The fields that an answer to a fetch has beside those of a batch. */
export const FetchPageHeader = Type.Object({
  epoch: Uuid,
  firstAvailableSeq: Type.Integer({ ...Seq, description: 'The oldest seq that the unit still has.' }),
  lastSeq: Count,
  more: Type.Boolean(),
});
export type FetchPageHeader = Static<typeof FetchPageHeader>;

export interface UnitBatch {
  readonly unit: string;
  /** A UUIDv7 that the unit made when its store was created or wiped. */
  readonly epoch: string;
  readonly events: readonly BatchEvent[];
}

/** The answer of a unit to a fetch. */
export interface FetchedBatch extends UnitBatch {
  /**
   * The oldest seq that the unit has; 1 if it never deleted an event. Earlier events that are not recorded are lost; after such a loss
   * the event with this seq is a `UnitStateReported`.
   */
  readonly firstAvailableSeq: number;
  readonly lastSeq: number;
  readonly more: boolean;
}

/** `UNIT/EPOCH/SEQ`, the id of an event that a unit reported. */
export function deviceEventId(unit: string, epoch: string, seq: number): string {
  return `${unit}/${epoch}/${seq}`;
}
