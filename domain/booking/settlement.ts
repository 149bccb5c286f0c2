/**
 * The decision that brings the bookings of a unit in line with the clock and with what the unit reported. The reactor takes
 * it after every commit of a unit's log, and when `nextSettlementAtMs` comes. It is idempotent: right after it, it decides nothing.
 */

import { usageOf } from '../device/unit-log.ts';
import type { EventDraft } from '../events/drafts.ts';
import { displacementCheck, nextServiceChangeAtMs } from '../registry/service.ts';
import { toInstant, toMs } from '../vocabulary.ts';
import { periodOf } from './allocation.ts';
import type { BookingContext } from './context.ts';
import { displacementTimesMs, occupantsOf, settleDisplaced } from './displacement.ts';
import { endAtRetirement, isDueAtRetirement } from './force-end.ts';
import { allReservations, evolveBooking, findReservation, type Reservation } from './reservation.ts';
import { recordRevival } from './revival.ts';

/**
 * How long after its period a confirmed reservation without a reported usage expires as a no-show. A unit that was offline
 * has this long to report that the customer came.
 */
export const NO_SHOW_GRACE_MS = 24 * 60 * 60_000;
/** A time before every settlement: what is due then is due until the next settlement. */
const DUE_AT_ONCE_MS = 0;
/** Most events of one settlement. What is left is due at once, so that it is decided next, in a commit of its own. */
export const MAX_SETTLEMENT_EVENTS = 400;

/** When a reservation expires unless a customer or the unit acts before: a hold at its end, a confirmed one as a no-show. */
export function expiryAtMs(reservation: Reservation): number | undefined {
  if (reservation.status === 'held') return toMs(reservation.holdExpiresAt);
  if (reservation.status === 'confirmed') return periodOf(reservation).untilMs + NO_SHOW_GRACE_MS;
  return undefined;
}

/**
 * When time alone next changes anything at a unit, milliseconds since 1970: the end of a hold, a beginning that meets an occupied
 * locker, the end of an allowance, a no-show, a locker that leaves or returns to service. It is the only rule about timers.
 *
 * @param settledAtMs when the unit was last settled on this state. Without it, the answer can be too early: a reservation that waits
 *   for its locker counts as due although settlement has nothing to decide.
 */
export function nextSettlementAtMs(state: BookingContext, settledAtMs = Number.NEGATIVE_INFINITY): number | undefined {
  const { registry, booking } = state;
  if (registry.status === 'unregistered') return undefined;
  const occupants = occupantsOf(state);
  const isDisplaced = displacementCheck(registry);
  const times = booking.open.flatMap((reservation): number[] => {
    // A booking that another process made while the locker left service is due at once.
    if (isDueAtRetirement(state, reservation)) return [DUE_AT_ONCE_MS];
    const expiresAtMs = expiryAtMs(reservation);
    if (expiresAtMs === undefined || usageOf(state, reservation.id) !== undefined) return [];
    const atOnce = isDisplaced(reservation.locker, periodOf(reservation)) ? [DUE_AT_ONCE_MS] : [];
    return [expiresAtMs, ...atOnce, ...displacementTimesMs(occupants, reservation)];
  });
  const serviceMs = times.length === 0 ? undefined : nextServiceChangeAtMs(registry, settledAtMs);
  if (serviceMs !== undefined) times.push(serviceMs);
  const next = times.filter((atMs) => atMs > settledAtMs).reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  return next === Number.POSITIVE_INFINITY ? undefined : next;
}

/**
 * Adopts the usage that the unit reported, expires reservations, and then moves or gives up those that cannot have their locker.
 * These come last because expiries free lockers, and each moved reservation takes the locker that it moves to. The result has at most
 * `MAX_SETTLEMENT_EVENTS` events: the caller repeats the settlement until it decides nothing.
 */
export function settleBookings(state: BookingContext, nowMs: number): EventDraft[] {
  const { registry } = state;
  if (registry.status === 'unregistered') return [];
  const settled = settleEach(
    state,
    nowMs,
    MAX_SETTLEMENT_EVENTS,
    (_, reservation) => settleUse(state, reservation, nowMs) ?? expireReservation(reservation, nowMs),
  );
  const left = MAX_SETTLEMENT_EVENTS - settled.drafts.length;
  // Displaced reservations have not begun, so their moves change no occupant.
  const occupants = occupantsOf(settled.state);
  const displaced = settleEach(settled.state, nowMs, left, (present, { id }) => {
    const reservation = findReservation(present.booking, id);
    return reservation === undefined ? [] : settleDisplaced(registry, present, occupants, reservation, nowMs);
  });
  return [...settled.drafts, ...displaced.drafts];
}

/** Settles one reservation alone, as `settleBookings` would. */
export function settleReservation(state: BookingContext, reservation: Reservation, nowMs: number): EventDraft[] {
  const { registry } = state;
  if (registry.status === 'unregistered') return [];
  const drafts = settleUse(state, reservation, nowMs) ?? expireReservation(reservation, nowMs);
  return drafts.length > 0 ? drafts : settleDisplaced(registry, state, occupantsOf(state), reservation, nowMs);
}

function settleUse(state: BookingContext, reservation: Reservation, nowMs: number): EventDraft[] | undefined {
  return endAtRetirement(state, reservation, nowMs) ?? reconcileUsage(state, reservation);
}

/** Decides on one reservation after another, up to `maxDrafts` events; each decision sees the drafts of those before it. */
function settleEach(
  state: BookingContext,
  nowMs: number,
  maxDrafts: number,
  decide: (state: BookingContext, reservation: Reservation) => readonly EventDraft[],
): { readonly state: BookingContext; readonly drafts: readonly EventDraft[] } {
  const time = toInstant(nowMs);
  const drafts: EventDraft[] = [];
  let present = state;
  for (const reservation of allReservations(state.booking)) {
    const more = decide(present, reservation);
    if (more.length === 0) continue;
    if (drafts.length + more.length > maxDrafts) break;
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
 * expired or rejected becomes active when the unit reports its usage. So does one that a report of the unit had ended: a unit that
 * was wiped reports a free locker, and may have opened it again before that report arrived. `undefined` when no usage is reported, or
 * when the reservation stays completed.
 */
export function reconcileUsage(state: BookingContext, reservation: Reservation): EventDraft[] | undefined {
  const { id, locker, status } = reservation;
  const usage = usageOf(state, id);
  if (usage === undefined) return undefined;
  if (status === 'completed' && (reservation.isEndedByUnit !== true || usage.endedAt !== undefined)) return undefined;
  const drafts: EventDraft[] = [];
  if (status !== 'active') {
    const data = { reservationId: id, locker: usage.locker, startedAt: usage.startedAt };
    drafts.push(...recordRevival(reservation, usage), { type: 'ReservationStarted', locker: usage.locker, data });
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

/** Ends a reservation whose time has run out. A customer who tried to open the locker did come, so that is no no-show. */
function expireReservation(reservation: Reservation, nowMs: number): EventDraft[] {
  const { id, locker, status, openResults } = reservation;
  const expiresAtMs = expiryAtMs(reservation);
  if (expiresAtMs === undefined || nowMs < expiresAtMs) return [];
  if (status === 'confirmed' && Object.keys(openResults).length > 0) {
    const reason = `Locker ${locker} never opened for the customer.`;
    return [{ type: 'ReservationRejected', locker, data: { reservationId: id, reason } }];
  }
  const reason = status === 'held' ? 'hold' : 'no-show';
  return [{ type: 'ReservationExpired', locker, data: { reservationId: id, reason } }];
}
