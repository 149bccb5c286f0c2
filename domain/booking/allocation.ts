/** Which lockers of a unit are free for a period: for rent, not reserved, and not occupied by a rental. */

import type { DeviceLocker } from '../device/device.ts';
import { overlaps, type Period } from '../period.ts';
import type { RegisteredLocker, RegisteredUnit } from '../registry/registry.ts';
import { isForRent } from '../registry/service.ts';
import { LOCKER_SIZES, type LockerSize, toInstant, toMs } from '../vocabulary.ts';
import type { BookingContext } from './context.ts';
import { isFinished, type Reservation } from './reservation.ts';

/** How long from now an overdue rental is expected to occupy its locker still. A doubtful locker is not sold for a period that begins within this time. */
export const OVERDUE_ALLOWANCE_MS = 30 * 60_000;

/** Periods of reservations that were parsed. A decision on a busy unit reads those of thousands, and parsing takes most of its time. */
const PERIODS = new WeakMap<Reservation, Period>();

export function periodOf(reservation: Reservation): Period {
  const known = PERIODS.get(reservation);
  if (known !== undefined) return known;
  const period = { fromMs: toMs(reservation.from), untilMs: toMs(reservation.until) };
  PERIODS.set(reservation, period);
  return period;
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

/** Lockers that are free for a period. */
export interface FreeLockers {
  /** In the order of the unit. */
  readonly certain: readonly RegisteredLocker[];
  /** Lockers that may not be usable: overdue, with a door that failed to open, or with a hardware error. They are offered last. */
  readonly doubtful: readonly RegisteredLocker[];
}

/**
 * The lockers of a unit that are free for a whole period. A doubtful locker is not free for a period that is about to begin. The
 * reservation with the id `except` does not count: settlement looks for another locker for it.
 */
export function freeLockers(
  unit: RegisteredUnit,
  state: Pick<BookingContext, 'booking' | 'device'>,
  period: Period,
  nowMs: number,
  except?: string,
): FreeLockers {
  const free = new Map(
    unit.lockers.filter(({ id }) => isForRent(unit, id, period)).map((locker) => [locker.id, locker]),
  );
  const overdue = new Set<string>();
  const [from, until] = [toInstant(period.fromMs), toInstant(period.untilMs)];
  for (const reservation of state.booking.open) {
    // Comparing the times as text is safe because the platform writes them all in one form, and it avoids parsing the
    // times of the many reservations of a busy unit that lie outside the period.
    const isOutside = reservation.from >= until || reservation.until <= from;
    if (isOutside && reservation.status !== 'active') continue;
    if (!free.has(reservation.locker)) continue;
    if (reservation.id === except || !blocksLocker(reservation, nowMs)) continue;
    if (overlaps(blockedPeriod(reservation, nowMs), period)) free.delete(reservation.locker);
    else if (reservation.status === 'active' && toMs(reservation.until) <= nowMs) overdue.add(reservation.locker);
  }
  const isAboutToBegin = period.fromMs < nowMs + OVERDUE_ALLOWANCE_MS;
  const certain: RegisteredLocker[] = [];
  const doubtful: RegisteredLocker[] = [];
  for (const locker of free.values()) {
    const reported = state.device.lockers[locker.id];
    const rental = rentalPeriod(reported, nowMs);
    if (rental !== undefined && overlaps(rental, period)) continue;
    const isOverdue =
      overdue.has(locker.id) || (reported?.rental !== undefined && toMs(reported.rental.until) <= nowMs);
    const isDoubtful = isOverdue || isDoubted(reported);
    if (!isDoubtful) certain.push(locker);
    else if (!isAboutToBegin) doubtful.push(locker);
  }
  return { certain, doubtful };
}

/** Whether the unit reported that the door of a locker failed to open, or a hardware error of it. */
export function isDoubted(locker: DeviceLocker | undefined): boolean {
  return locker?.openFailedAt !== undefined || (locker?.errors ?? []).length > 0;
}

/** The first of the smallest lockers that have at least a size; a doubtful one only when no other fits. */
export function smallestFittingLocker(
  { certain, doubtful }: FreeLockers,
  size: LockerSize,
): RegisteredLocker | undefined {
  for (const lockers of [certain, doubtful]) {
    for (const candidate of LOCKER_SIZES.slice(LOCKER_SIZES.indexOf(size))) {
      const locker = lockers.find((free) => free.size === candidate);
      if (locker !== undefined) return locker;
    }
  }
  return undefined;
}
