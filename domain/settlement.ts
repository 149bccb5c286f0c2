/**
 * What follows from the clock and from what the unit reported: one decision that brings the bookings of a unit in line.
 * It is what the reactor takes after every fact and every timer. Taken twice, it finds nothing to do the second time.
 */

import { freeLockers, overlaps, periodOf, rentalPeriod, smallestFitting } from './allocation.ts';
import type { EventDraft } from './envelope.ts';
import type { RegisteredUnit } from './registry.ts';
import type { Reservation } from './reservation.ts';
import type { UnitState } from './unit.ts';
import { toMs } from './vocabulary.ts';

/**
 * A confirmed reservation that nobody used is given up this long after its period: a unit that was cut off may bring the
 * proof of use that late.
 */
export const NO_SHOW_GRACE_MS = 24 * 60 * 60_000;

/** When time alone will next change a reservation: the end of a hold, or of the wait for a no-show. */
export function dueAtMs(reservation: Reservation): number | undefined {
  if (reservation.status === 'held') return toMs(reservation.holdExpiresAt);
  if (reservation.status === 'confirmed') return toMs(reservation.until) + NO_SHOW_GRACE_MS;
  return undefined;
}

/** Expires what is due, follows what the unit reported, and resolves conflicts with rentals at the screen. */
export function settle(state: UnitState, nowMs: number): EventDraft[] {
  if (state.registry.status === 'unregistered') return [];
  const unit = state.registry;
  // Two reservations that give way in one decision must not move to the same locker.
  const claimed = new Set<string>();
  return Object.values(state.booking.reservations).flatMap((reservation) =>
    settleReservation(unit, state, reservation, claimed, nowMs),
  );
}

function settleReservation(
  unit: RegisteredUnit,
  state: UnitState,
  reservation: Reservation,
  claimed: Set<string>,
  nowMs: number,
): EventDraft[] {
  const { id, locker, status } = reservation;
  const use = state.device.uses[id];
  const drafts: EventDraft[] = [];
  if (status === 'confirmed' && use !== undefined) {
    const data = { reservationId: id, locker: use.locker, startedAt: use.startedAt };
    drafts.push({ type: 'ReservationStarted', locker: use.locker, data });
  }
  if ((status === 'active' || status === 'confirmed') && use?.endedAt !== undefined) {
    const data = { reservationId: id, endedAt: use.endedAt, endedBy: 'unit' as const };
    drafts.push({ type: 'ReservationCompleted', locker: use.locker, data });
  }
  if (drafts.length > 0) return drafts;

  const dueAt = dueAtMs(reservation);
  if (dueAt !== undefined && nowMs >= dueAt) {
    const reason = status === 'held' ? 'hold' : 'no-show';
    return [{ type: 'ReservationExpired', locker, data: { reservationId: id, reason } }];
  }
  return status === 'held' || status === 'confirmed' ? resolveConflict(unit, state, reservation, claimed, nowMs) : [];
}

/** The unit is right: a reservation whose locker was taken at the screen moves, or is given up. */
function resolveConflict(
  unit: RegisteredUnit,
  state: UnitState,
  reservation: Reservation,
  claimed: Set<string>,
  nowMs: number,
): EventDraft[] {
  const { id, locker, size } = reservation;
  const occupant = state.device.lockers[locker];
  const occupied = rentalPeriod(occupant, nowMs);
  const period = periodOf(reservation);
  if (occupant?.rental === undefined || occupied === undefined || occupant.rental.reservationId === id) return [];
  if (period.untilMs <= nowMs || !overlaps(occupied, period)) return [];

  const free = freeLockers(unit, state, period, nowMs, id).filter((candidate) => !claimed.has(candidate.id));
  const target = smallestFitting(free, size);
  const conflict = { reservationId: id, locker, rentalId: occupant.rental.rentalId };
  const reason = `Locker ${locker} was taken at the screen.`;
  if (target === undefined) {
    return [
      { type: 'ReservationConflictDetected', locker, data: { ...conflict, resolution: 'rejected' } },
      { type: 'ReservationRejected', locker, data: { reservationId: id, reason } },
    ];
  }
  claimed.add(target.id);
  return [
    { type: 'ReservationConflictDetected', locker, data: { ...conflict, resolution: 'moved' } },
    {
      type: 'ReservationMoved',
      locker: target.id,
      data: { reservationId: id, fromLocker: locker, toLocker: target.id, size: target.size, reason },
    },
  ];
}
