/**
 * What the platform tells a unit about its lockers: their reservations, and when they are closed. It travels in pages. Each page covers
 * some lockers and stands alone: it replaces what the unit knows of these lockers, and says nothing about others.
 */

import { type Static, Type } from '@sinclair/typebox';
import { Identifier, Instant, LockerId, LockerSize, Uuid } from '../vocabulary.ts';

/** Bound on the reservations of one page. The answer to a page makes at most one event for each, which fits into one commit. */
export const MAX_PAGE_RESERVATIONS = 400;
/** Bound on the JSON of one page, in bytes: signed, which adds a third, it fits into 256 KiB. */
export const MAX_PAGE_BYTES = 180 * 1024;

/** A reservation as a unit knows it. */
export const SyncedReservation = Type.Object({
  reservationId: Identifier,
  locker: LockerId,
  size: LockerSize,
  from: Instant,
  until: Instant,
  /** Six digits that the customer may type at the screen. */
  accessCode: Type.String({ pattern: '^\\d{6}$' }),
});
export type SyncedReservation = Static<typeof SyncedReservation>;

/** A period in which the unit must not rent out a locker. Without `from` it has begun, and without `until` it has no end yet. */
export const ClosedPeriod = Type.Object({
  locker: Type.Optional(LockerId),
  from: Type.Optional(Instant),
  until: Type.Optional(Instant),
});
export type ClosedPeriod = Static<typeof ClosedPeriod>;

/** The state of the platform from which a page was computed. */
const AsOf = Type.Object({
  epoch: Type.Optional(Uuid),
  seq: Type.Integer({ minimum: 0 }),
  bookings: Type.Integer({ minimum: 0 }),
});
export type AsOf = Static<typeof AsOf>;

export const SyncReservations = Type.Object({
  version: Type.Integer({ minimum: 0 }),
  asOf: AsOf,
  timeZone: Type.String({ minLength: 1, maxLength: 100 }),
  lockers: Type.Array(LockerId),
  completeUntil: Type.Optional(Instant),
  reservations: Type.Array(SyncedReservation, { maxItems: MAX_PAGE_RESERVATIONS }),
  closed: Type.Array(ClosedPeriod),
});
export type SyncReservations = Static<typeof SyncReservations>;

/** The fields by which pages about one locker are ordered. */
export interface PageOrder {
  readonly version: number;
  readonly bookings: number;
}

/** Whether a page about a locker is older than another one. */
export function isOlderPage(page: PageOrder, than: PageOrder): boolean {
  return page.bookings === than.bookings ? page.version < than.version : page.bookings < than.bookings;
}
