/** Which lockers of a unit are free for a period: in service, not reserved, and not occupied by a rental. */

import type { DeviceLocker, DeviceState, Rental } from '../device/device.ts';
import { overlaps, type Period } from '../period.ts';
import type { RegisteredLocker } from '../registry/registry.ts';
import { LOCKER_SIZES, type LockerSize, toInstant, toMs } from '../vocabulary.ts';
import type { BookingContext } from './context.ts';
import { isFinished, type Reservation } from './reservation.ts';

/** How long from now an overdue rental is expected to occupy its locker still; the platform promises the locker later only. */
export const OVERDUE_ALLOWANCE_MS = 30 * 60_000;

export function periodOf(reservation: Reservation): Period {
  return { fromMs: toMs(reservation.from), untilMs: toMs(reservation.until) };
}

/** Whether a reservation blocks its locker for other customers now. A hold that has run out does not. */
export function blocksLocker(reservation: Reservation, nowMs: number): boolean {
  if (isFinished(reservation)) return false;
  return reservation.status !== 'held' || nowMs < toMs(reservation.holdExpiresAt);
}

/** When a usage is expected to end: as planned, or, when it is overdue, after the allowance from now. */
function expectedEnd(plannedMs: number, nowMs: number): number {
  return plannedMs > nowMs ? plannedMs : nowMs + OVERDUE_ALLOWANCE_MS;
}

/** The period for which a reservation blocks its locker; that of an overdue reservation reaches beyond `until`. */
export function blockedPeriod(reservation: Reservation, nowMs: number): Period {
  const period = periodOf(reservation);
  if (reservation.status !== 'active') return period;
  return { fromMs: period.fromMs, untilMs: expectedEnd(period.untilMs, nowMs) };
}

/** The period for which the rental in a locker occupies it; `undefined` when the locker has no rental. */
export function rentalPeriod(locker: DeviceLocker | undefined, nowMs: number): Period | undefined {
  const rental = locker?.rental;
  if (rental === undefined) return undefined;
  return { fromMs: toMs(rental.startedAt), untilMs: expectedEnd(toMs(rental.until), nowMs) };
}

/** A rental of another customer in the locker and the period of a reservation. */
export interface ConflictingRental {
  readonly rental: Rental;
  /** Whether the rental should have ended before the reservation begins, so that its customer may leave any moment. */
  readonly isOverdue: boolean;
}

export function conflictingRental(
  device: DeviceState,
  reservation: Reservation,
  nowMs: number,
): ConflictingRental | undefined {
  const locker = device.lockers[reservation.locker];
  const occupied = rentalPeriod(locker, nowMs);
  if (locker?.rental === undefined || occupied === undefined) return undefined;
  if (locker.rental.reservationId === reservation.id) return undefined;
  const period = periodOf(reservation);
  if (period.untilMs <= nowMs || !overlaps(occupied, period)) return undefined;
  return { rental: locker.rental, isOverdue: toMs(locker.rental.until) <= period.fromMs };
}

/**
 * The candidates that are free for a whole period, in their order. The reservation with the id `except` does not count:
 * settlement looks for another locker for it.
 */
export function freeLockers(
  candidates: readonly RegisteredLocker[],
  state: BookingContext,
  period: Period,
  nowMs: number,
  except?: string,
): RegisteredLocker[] {
  const free = new Map(candidates.filter(({ inService }) => inService).map((locker) => [locker.id, locker]));
  const [from, until] = [toInstant(period.fromMs), toInstant(period.untilMs)];
  for (const reservation of state.booking.open) {
    if (!free.has(reservation.locker)) continue;
    // Comparing the times as text is safe because the platform writes them all in one form, and it avoids parsing the
    // times of the many reservations of a busy unit that lie outside the period.
    const isOutside = reservation.from >= until || reservation.until <= from;
    if (isOutside && reservation.status !== 'active') continue;
    if (reservation.id === except || !blocksLocker(reservation, nowMs)) continue;
    if (overlaps(blockedPeriod(reservation, nowMs), period)) free.delete(reservation.locker);
  }
  return [...free.values()].filter((locker) => {
    const rental = rentalPeriod(state.device.lockers[locker.id], nowMs);
    return rental === undefined || !overlaps(rental, period);
  });
}

/** The first of the smallest lockers that have at least a size. */
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
