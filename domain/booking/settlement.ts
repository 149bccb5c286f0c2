/**
 * The decision that brings the bookings of a unit in line with the clock and with what the unit reported. The reactor takes
 * it after every commit of a unit's log and after every timer. It is idempotent: right after it, it decides nothing.
 */

import { usageOf } from '../device/unit-log.ts';
import type { EventDraft } from '../events/drafts.ts';
import type { RegisteredUnit } from '../registry/registry.ts';
import { toInstant, toMs } from '../vocabulary.ts';
import { conflictingRental, freeLockers, OVERDUE_ALLOWANCE_MS, periodOf, smallestFittingLocker } from './allocation.ts';
import type { BookingContext } from './context.ts';
import { allReservations, evolveBooking, findReservation, type Reservation } from './reservation.ts';

/**
 * How long after its period a confirmed reservation without a reported usage expires as a no-show. A unit that was offline
 * has this long to report that the customer came.
 */
export const NO_SHOW_GRACE_MS = 24 * 60 * 60_000;

/** When a reservation expires unless a customer or the unit acts before: a hold at its end, a confirmed one as a no-show. */
export function expiryAtMs(reservation: Reservation): number | undefined {
  if (reservation.status === 'held') return toMs(reservation.holdExpiresAt);
  if (reservation.status === 'confirmed') return toMs(reservation.until) + NO_SHOW_GRACE_MS;
  return undefined;
}

/**
 * Adopts the usage that the unit reported, expires reservations and then resolves conflicts with walk-up rentals. Conflicts
 * come last because expiries free lockers, and each moved reservation takes the locker that it moves to.
 */
export function settleBookings(state: BookingContext, nowMs: number): EventDraft[] {
  const { registry } = state;
  if (registry.status === 'unregistered') return [];
  const settled = settleEach(
    state,
    nowMs,
    (_, reservation) => reconcileUsage(state, reservation) ?? expireReservation(reservation, nowMs),
  );
  const resolved = settleEach(settled.state, nowMs, (present, reservation) =>
    resolveConflict(registry, present, reservation, nowMs),
  );
  return [...settled.drafts, ...resolved.drafts];
}

/** Decides on one reservation after another; each decision sees the drafts of those before it. */
function settleEach(
  state: BookingContext,
  nowMs: number,
  decide: (state: BookingContext, reservation: Reservation) => readonly EventDraft[],
): { readonly state: BookingContext; readonly drafts: readonly EventDraft[] } {
  const time = toInstant(nowMs);
  const drafts: EventDraft[] = [];
  let present = state;
  for (const reservation of allReservations(state.booking)) {
    const more = decide(present, reservation);
    if (more.length === 0) continue;
    drafts.push(...more);
    present = withDrafts(present, more, time);
  }
  return { state: present, drafts };
}

/** The unit as it would be if the drafts were recorded at `time`, RFC 3339. Nothing is recorded. */
export function withDrafts<S extends BookingContext>(state: S, drafts: readonly EventDraft[], time: string): S {
  if (drafts.length === 0) return state;
  const booking = drafts.reduce((folded, draft) => evolveBooking(folded, { ...draft, time }), state.booking);
  return { ...state, booking };
}

/**
 * Adopts how the unit reported that a reservation was used. The unit decides: a reservation that the platform cancelled,
 * expired or rejected becomes active when the unit reports its usage. `undefined` when no usage is reported, or when the
 * reservation is completed.
 */
export function reconcileUsage(state: BookingContext, reservation: Reservation): EventDraft[] | undefined {
  const { id, locker, status } = reservation;
  if (status === 'completed') return undefined;
  const usage = usageOf(state, id);
  if (usage === undefined) return undefined;
  const drafts: EventDraft[] = [];
  if (status !== 'active') {
    const data = { reservationId: id, locker: usage.locker, startedAt: usage.startedAt };
    drafts.push({ type: 'ReservationStarted', locker: usage.locker, data });
  }
  if (usage.endedAt !== undefined) {
    const data = { reservationId: id, endedAt: usage.endedAt, endedBy: 'unit' as const };
    drafts.push({ type: 'ReservationCompleted', locker: usage.locker, data });
  } else if (status === 'active' && usage.locker !== locker) {
    const lockers = state.registry.status === 'unregistered' ? [] : state.registry.lockers;
    const size = lockers.find((candidate) => candidate.id === usage.locker)?.size ?? reservation.size;
    const reason = `The unit assigned locker ${usage.locker}.`;
    const data = { reservationId: id, fromLocker: locker, toLocker: usage.locker, size, reason };
    drafts.push({ type: 'ReservationMoved', locker: usage.locker, data });
  }
  return drafts;
}

/**
 * The unit with all reported usage adopted. A view of the past shows a reservation as used from the moment at which the
 * unit used it, although the platform decides so only when the report arrives.
 */
export function withReportedUsage<S extends BookingContext>(state: S, atMs: number): S {
  const time = toInstant(atMs);
  return allReservations(state.booking).reduce(
    (present, reservation) => withDrafts(present, reconcileUsage(present, reservation) ?? [], time),
    state,
  );
}

function expireReservation(reservation: Reservation, nowMs: number): EventDraft[] {
  const { id, locker, status } = reservation;
  const expiresAtMs = expiryAtMs(reservation);
  if (expiresAtMs === undefined || nowMs < expiresAtMs) return [];
  const reason = status === 'held' ? 'hold' : 'no-show';
  return [{ type: 'ReservationExpired', locker, data: { reservationId: id, reason } }];
}

/** Moves a reservation whose locker a walk-up rental occupies to a free locker, or rejects it when none is free. */
function resolveConflict(
  unit: RegisteredUnit,
  state: BookingContext,
  { id }: Reservation,
  nowMs: number,
): EventDraft[] {
  const reservation = findReservation(state.booking, id);
  if (reservation === undefined || (reservation.status !== 'held' && reservation.status !== 'confirmed')) return [];
  const conflicting = conflictingRental(state.device, reservation, nowMs);
  if (conflicting === undefined) return [];

  const { locker, bookedSize } = reservation;
  const period = periodOf(reservation);
  const target = smallestFittingLocker(freeLockers(unit.lockers, state, period, nowMs, id), bookedSize);
  const conflict = { reservationId: id, locker, rentalId: conflicting.rental.rentalId };
  const reason = `A walk-up rental occupies locker ${locker}.`;
  if (target === undefined) {
    // A rejection is final, so an overdue rental gets its allowance to end before the reservation is rejected.
    if (conflicting.isOverdue && nowMs < period.fromMs + OVERDUE_ALLOWANCE_MS) return [];
    return [
      { type: 'ReservationConflictDetected', locker, data: { ...conflict, resolution: 'rejected' } },
      { type: 'ReservationRejected', locker, data: { reservationId: id, reason } },
    ];
  }
  return [
    { type: 'ReservationConflictDetected', locker, data: { ...conflict, resolution: 'moved' } },
    {
      type: 'ReservationMoved',
      locker: target.id,
      data: { reservationId: id, fromLocker: locker, toLocker: target.id, size: target.size, reason },
    },
  ];
}
