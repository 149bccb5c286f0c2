/** The commands of the platform to a unit, and the unit's answers. */

import { type Static, Type } from '@sinclair/typebox';
import { VersionedConfiguration } from '../configuration-values.ts';
import {
  Count,
  Identifier,
  Instant,
  LockerId,
  MAX_LOCKERS_PER_UNIT,
  Text,
  Token,
  UnitName,
  Uuid,
} from '../vocabulary.ts';
import { MAX_PAGE_RESERVATIONS, SyncReservations } from './reservation-list.ts';

/** How long the signature of a command is valid after it was made. */
export const COMMAND_SIGNATURE_TTL_S = 30;

const OpenLocker = Type.Object({
  locker: LockerId,
  reservationId: Type.Optional(Identifier),
  /** End of the rental that the first opening starts. */
  until: Type.Optional(Instant),
  /** An operator opens the locker. The unit opens it also while it is rented, and starts no rental. */
  service: Type.Optional(Type.Boolean()),
});
const ApplyConfiguration = VersionedConfiguration;

const head = { commandId: Type.String({ minLength: 1, maxLength: 100 }), expiresAt: Instant };

/** A unit ignores fields that it does not know, so that a later version of the platform can add some. */
export const Command = Type.Union([
  Type.Object({ ...head, openLocker: OpenLocker }),
  Type.Object({ ...head, applyConfiguration: ApplyConfiguration }),
  Type.Object({ ...head, syncReservations: SyncReservations }),
]);
export type Command = Static<typeof Command>;

type WithoutExpiry<C> = C extends Command ? Omit<C, 'expiresAt'> : never;
/** A command before it is sent. The expiry is a time of the unit's clock, which only the sender knows. */
export type UnsentCommand = WithoutExpiry<Command>;

/**
 * The body of `POST /commands`, and of a request on the unit's `.commands` subject: a compact Ed25519 JWS whose payload
 * is `{aud: UNIT, iat, exp, command}`.
 */
export const SignedCommand = Type.Object({ jws: Type.String({ maxLength: 1_048_576 }) });
export type SignedCommand = Static<typeof SignedCommand>;

export const CommandAnswer = Type.Object({
  commandId: Identifier,
  /** `done`: executed, now or when the same `commandId` came before. `refused`: not executed; a repetition is refused too. */
  status: Type.Union([Type.Literal('done'), Type.Literal('failed'), Type.Literal('refused')]),
  /** Why it failed or was refused, such as `jammed`, `expired`, `unknown-locker`, `signature`. */
  reason: Type.Optional(Text),
  /** For `applyConfiguration`: the hash of the configuration that the unit runs now. */
  configurationHash: Type.Optional(Identifier),
  /** For `syncReservations`: the reservations that the unit could not keep, and why. */
  rejected: Type.Optional(
    Type.Array(Type.Object({ reservationId: Identifier, reason: Text }), { maxItems: MAX_PAGE_RESERVATIONS }),
  ),
  /** For `syncReservations`: the end of the unit's log at the time of the answer. */
  log: Type.Optional(Type.Object({ epoch: Uuid, lastSeq: Count })),
  /** For `syncReservations`: the reservations whose rental runs in one of the lockers of the page. */
  rentals: Type.Optional(Type.Array(Identifier, { maxItems: MAX_LOCKERS_PER_UNIT })),
});
export type CommandAnswer = Static<typeof CommandAnswer>;

/** The answer of a unit to a ping over HTTP or NATS: the content of the UDP reply as JSON. A heartbeat has the same content. */
export const PingReply = Type.Object({
  unit: UnitName,
  bootId: Token,
  uptimeS: Count,
  configurationHash: Token,
  epoch: Token,
  lastSeq: Count,
  time: Instant,
});
export type PingReply = Static<typeof PingReply>;

/** The payload of an `offlineToken`: a compact Ed25519 JWS with `aud` = the unit, shown as a QR code. */
export const OfflineTokenClaims = Type.Object({
  aud: UnitName,
  sub: Type.String({ ...Identifier, description: 'The id of the reservation.' }),
  locker: LockerId,
  from: Instant,
  until: Instant,
  asOf: Type.Integer({
    minimum: 0,
    description: 'The sequence of the bookings in which the reservation was confirmed.',
  }),
});
export type OfflineTokenClaims = Static<typeof OfflineTokenClaims>;
