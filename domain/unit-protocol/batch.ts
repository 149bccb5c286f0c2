/** The batch in which a unit's log travels, pushed or fetched, and the place of an event in that log. */

import { type Static, Type } from '@sinclair/typebox';
import { Instant, LockerId, UnitName, Uuid } from '../vocabulary.ts';

/** Most events in one batch. */
export const MAX_BATCH_EVENTS = 500;
/** Most bytes of one batch as JSON. */
export const MAX_BATCH_BYTES = 256 * 1024;
/** Most bytes of one event as JSON, the state of a thousand lockers among them; a larger one is rejected in its place. */
export const MAX_EVENT_BYTES = 240 * 1024;
/** Most objects and lists of one event that stand in one another; whoever reads events need not go deeper. */
export const MAX_EVENT_DEPTH = 32;

export const BatchEvent = Type.Object({
  seq: Type.Integer({ minimum: 1, description: 'The number of the event: it counts from 1 without gaps in an epoch.' }),
  v: Type.Integer({ minimum: 1, description: 'The version of the schema of the type.' }),
  type: Type.String({ pattern: '^[A-Za-z][A-Za-z0-9._-]{0,99}$' }),
  time: Instant,
  locker: Type.Optional(LockerId),
  offline: Type.Optional(Type.Boolean({ description: 'Whether the unit was offline when the event happened.' })),
  causationId: Type.Optional(
    Type.String({ maxLength: 200, description: 'The commandId of the command that caused the event.' }),
  ),
  data: Type.Record(Type.String(), Type.Unknown()),
});
export type BatchEvent = Static<typeof BatchEvent>;

const KNOWN_FIELDS: ReadonlySet<string> = new Set(Object.keys(BatchEvent.properties));

/** What stands beside the fields of an event that this code knows, if anything does. */
export function unknownFields(event: BatchEvent): Readonly<Record<string, unknown>> | undefined {
  const unknown = Object.entries(event).filter(([name]) => !KNOWN_FIELDS.has(name));
  return unknown.length === 0 ? undefined : Object.fromEntries(unknown);
}

/** The head of a batch. Its events are checked one by one, so that one bad event does not take the others with it. */
export const BatchHeader = Type.Object({
  unit: UnitName,
  epoch: Uuid,
  events: Type.Array(Type.Unknown(), { maxItems: MAX_BATCH_EVENTS }),
});
export type BatchHeader = Static<typeof BatchHeader>;

/**
 * The body of a request for a unit's log on its `.commands` subject; `GET /events` says the same with a query and a header.
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

/** Of what a unit answers to a fetch: what stands beside the batch. */
export const FetchPageHeader = Type.Object({
  epoch: Uuid,
  firstAvailableSeq: Type.Integer({ minimum: 1, description: 'The oldest seq that the unit still has.' }),
  lastSeq: Type.Integer({ minimum: 0 }),
  more: Type.Boolean(),
});
export type FetchPageHeader = Static<typeof FetchPageHeader>;

export interface UnitBatch {
  readonly unit: string;
  /** UUIDv7 made when the unit's store was created or wiped. */
  readonly epoch: string;
  readonly events: readonly BatchEvent[];
}

/** What a unit answers to a fetch. */
export interface FetchedBatch extends UnitBatch {
  /**
   * The oldest seq that the unit still has, 1 if it never deleted any. What stands before it and is not recorded is lost;
   * after such a loss the event with this seq is a `UnitStateReported`.
   */
  readonly firstAvailableSeq: number;
  readonly lastSeq: number;
  readonly more: boolean;
}

/** `UNIT/EPOCH/SEQ`, the id of an event that a unit reported. */
export function deviceEventId(unit: string, epoch: string, seq: number): string {
  return `${unit}/${epoch}/${seq}`;
}
