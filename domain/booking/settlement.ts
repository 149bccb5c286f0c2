/**
 * What follows from the clock and from what the unit reported: one decision that brings the bookings of a unit in line.
 * It is what the reactor takes after every fact and every timer. Taken twice, it finds nothing to do the second time.
 */

import type { EventDraft } from '../events/envelope.ts';
import type { RegisteredUnit } from '../registry/registry.ts';
import { type UnitState, usageOf } from '../unit/unit.ts';
import { toInstant, toMs } from '../vocabulary.ts';
import { conflictingRental, freeLockers, OVERDUE_ALLOWANCE_MS, periodOf, smallestFittingLocker } from './allocation.ts';
import { allReservations, evolveBooking, findReservation, type Reservation } from './reservation.ts';

/**
 * A confirmed reservation that nobody used is given up this long after its period: a unit that was cut off may bring the
 * proof of use that late.
 */
export const NO_SHOW_GRACE_MS = 24 * 60 * 60_000;

/** When time alone will next change a reservation: the end of a hold, or of the wait for a no-show. */
export function expiryAtMs(reservation: Reservation): number | undefined {
  if (reservation.status === 'held') return toMs(reservation.holdExpiresAt);
  if (reservation.status === 'confirmed') return toMs(reservation.until) + NO_SHOW_GRACE_MS;
  return undefined;
}

/**
 * Follows what the unit reported, expires what is due, and then resolves conflicts with rentals at the screen: what has
 * just ended makes room, and what has just moved takes it.
 */
export function settleBookings(state: UnitState, nowMs: number): EventDraft[] {
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

/** Takes one decision after another, each on the state that those before it leave behind. */
function settleEach(
  state: UnitState,
  nowMs: number,
  decide: (state: UnitState, reservation: Reservation) => readonly EventDraft[],
): { readonly state: UnitState; readonly drafts: readonly EventDraft[] } {
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

/** The unit as it would be if this were decided at that time, RFC 3339: nothing is recorded. */
export function withDrafts(state: UnitState, drafts: readonly EventDraft[], time: string): UnitState {
  if (drafts.length === 0) return state;
  const booking = drafts.reduce((folded, draft) => evolveBooking(folded, { ...draft, time }), state.booking);
  return { ...state, booking };
}

/**
 * The unit is right about what was used where and when, whatever the platform had decided meanwhile: also a reservation
 * that was given up here and redeemed there is in use. `undefined` when it says nothing about this one.
 */
export function reconcileUsage(state: UnitState, reservation: Reservation): EventDraft[] | undefined {
  const { id, locker, status } = reservation;
  if (status === 'completed') return undefined;
  const use = usageOf(state, id);
  if (use === undefined) return undefined;
  const drafts: EventDraft[] = [];
  if (status !== 'active') {
    const data = { reservationId: id, locker: use.locker, startedAt: use.startedAt };
    drafts.push({ type: 'ReservationStarted', locker: use.locker, data });
  }
  if (use.endedAt !== undefined) {
    const data = { reservationId: id, endedAt: use.endedAt, endedBy: 'unit' as const };
    drafts.push({ type: 'ReservationCompleted', locker: use.locker, data });
  } else if (status === 'active' && use.locker !== locker) {
    const lockers = state.registry.status === 'unregistered' ? [] : state.registry.lockers;
    const size = lockers.find((candidate) => candidate.id === use.locker)?.size ?? reservation.size;
    const reason = `The unit gave locker ${use.locker}.`;
    const data = { reservationId: id, fromLocker: locker, toLocker: use.locker, size, reason };
    drafts.push({ type: 'ReservationMoved', locker: use.locker, data });
  }
  return drafts;
}

function expireReservation(reservation: Reservation, nowMs: number): EventDraft[] {
  const { id, locker, status } = reservation;
  const dueAt = expiryAtMs(reservation);
  if (dueAt === undefined || nowMs < dueAt) return [];
  const reason = status === 'held' ? 'hold' : 'no-show';
  return [{ type: 'ReservationExpired', locker, data: { reservationId: id, reason } }];
}

/** The unit is right: a reservation whose locker was taken at the screen moves, or is given up. */
function resolveConflict(unit: RegisteredUnit, state: UnitState, { id }: Reservation, nowMs: number): EventDraft[] {
  const reservation = findReservation(state.booking, id);
  if (reservation === undefined || (reservation.status !== 'held' && reservation.status !== 'confirmed')) return [];
  const conflicting = conflictingRental(state.device, reservation, nowMs);
  if (conflicting === undefined) return [];

  const { locker, bookedSize } = reservation;
  const period = periodOf(reservation);
  const target = smallestFittingLocker(freeLockers(unit.lockers, state, period, nowMs, id), bookedSize);
  const conflict = { reservationId: id, locker, rentalId: conflicting.rental.rentalId };
  const reason = `Locker ${locker} was taken at the screen.`;
  if (target === undefined) {
    // Whoever is over time may still go before it is too late; a reservation that was given up does not come back.
    if (conflicting.overdue && nowMs < period.fromMs + OVERDUE_ALLOWANCE_MS) return [];
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
