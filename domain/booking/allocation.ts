/** Which locker is free when: in service, not promised to anybody else, and not taken at the screen. */

import type { DeviceLocker, DeviceState, Rental } from '../device/device.ts';
import type { RegisteredLocker } from '../registry/registry.ts';
import type { UnitState } from '../unit/unit.ts';
import { LOCKER_SIZES, type LockerSize, toInstant, toMs } from '../vocabulary.ts';
import { isFinished, type Reservation } from './reservation.ts';

/** A rental that is over its time still sits in its locker; this much longer, nobody else is promised it. */
export const OVERDUE_ALLOWANCE_MS = 30 * 60_000;

export interface Period {
  readonly fromMs: number;
  readonly untilMs: number;
}

export function overlaps(a: Period, b: Period): boolean {
  return a.fromMs < b.untilMs && b.fromMs < a.untilMs;
}

export function periodOf(reservation: Reservation): Period {
  return { fromMs: toMs(reservation.from), untilMs: toMs(reservation.until) };
}

/** Whether a reservation keeps others from its locker at this moment. A hold that has run out binds nothing. */
export function blocksLocker(reservation: Reservation, nowMs: number): boolean {
  if (isFinished(reservation)) return false;
  return reservation.status !== 'held' || nowMs < toMs(reservation.holdExpiresAt);
}

/** The end of a use as planned, or, once that has passed, as far as nobody else should be promised the locker. */
function expectedEnd(plannedMs: number, nowMs: number): number {
  return plannedMs > nowMs ? plannedMs : nowMs + OVERDUE_ALLOWANCE_MS;
}

/** The time that a reservation takes up: beyond `until` while its customer has not given the locker back. */
export function blockedPeriod(reservation: Reservation, nowMs: number): Period {
  const period = periodOf(reservation);
  if (reservation.status !== 'active') return period;
  return { fromMs: period.fromMs, untilMs: expectedEnd(period.untilMs, nowMs) };
}

/** The time that the rental in a locker takes up, if one runs there. */
export function rentalPeriod(locker: DeviceLocker | undefined, nowMs: number): Period | undefined {
  const rental = locker?.rental;
  if (rental === undefined) return undefined;
  return { fromMs: toMs(rental.startedAt), untilMs: expectedEnd(toMs(rental.until), nowMs) };
}

/**
 * The rental of somebody else that stands in the way of a reservation. `overdue`: it was to end before the reservation
 * begins, so that its customer may be about to leave.
 */
export function conflictingRental(
  device: DeviceState,
  reservation: Reservation,
  nowMs: number,
): { readonly rental: Rental; readonly overdue: boolean } | undefined {
  const locker = device.lockers[reservation.locker];
  const occupied = rentalPeriod(locker, nowMs);
  if (locker?.rental === undefined || occupied === undefined) return undefined;
  if (locker.rental.reservationId === reservation.id) return undefined;
  const period = periodOf(reservation);
  if (period.untilMs <= nowMs || !overlaps(occupied, period)) return undefined;
  return { rental: locker.rental, overdue: toMs(locker.rental.until) <= period.fromMs };
}

/**
 * Which of some lockers of a unit are free for a whole period, in their order.
 * `except` names a reservation that is not counted against itself.
 */
export function freeLockers(
  candidates: readonly RegisteredLocker[],
  state: UnitState,
  period: Period,
  nowMs: number,
  except?: string,
): RegisteredLocker[] {
  const free = new Map(candidates.filter(({ inService }) => inService).map((locker) => [locker.id, locker]));
  const [from, until] = [toInstant(period.fromMs), toInstant(period.untilMs)];
  for (const reservation of state.booking.open) {
    if (!free.has(reservation.locker)) continue;
    // Reservations carry the platform's own form of time, whose order as text is its order in time: most of a busy unit's
    // reservations lie elsewhere, and are passed over without reading a clock.
    const isElsewhere = reservation.from >= until || reservation.until <= from;
    if (isElsewhere && reservation.status !== 'active') continue;
    if (reservation.id === except || !blocksLocker(reservation, nowMs)) continue;
    if (overlaps(blockedPeriod(reservation, nowMs), period)) free.delete(reservation.locker);
  }
  return [...free.values()].filter((locker) => {
    const device = state.device.lockers[locker.id];
    if (except !== undefined && device?.rental?.reservationId === except) return true;
    const rental = rentalPeriod(device, nowMs);
    return rental === undefined || !overlaps(rental, period);
  });
}

/** The smallest free locker that holds what fits `size`. */
export function smallestFittingLocker(
  lockers: readonly RegisteredLocker[],
  size: LockerSize,
): RegisteredLocker | undefined {
  for (const candidate of LOCKER_SIZES.slice(LOCKER_SIZES.indexOf(size))) {
    const locker = lockers.find((free) => free.size === candidate);
    if (locker !== undefined) return locker;
  }
  return undefined;
}
