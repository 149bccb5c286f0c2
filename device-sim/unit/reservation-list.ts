/**
 * The list of reservations. A page is what the platform wished when it was computed, and the unit knows better what has happened since: a
 * page never ends a rental whose beginning it does not contain.
 */

import { rentalPeriod } from '../../domain/booking/allocation.ts';
import { overlaps } from '../../domain/period.ts';
import type { CommandAnswer } from '../../domain/unit-protocol/commands.ts';
import {
  isOlderPage,
  type SyncedReservation,
  type SyncReservations,
} from '../../domain/unit-protocol/reservation-list.ts';
import { LOCKER_SIZES, MAX_LOCKERS_PER_UNIT, toMs } from '../../domain/vocabulary.ts';
import { endRental } from './customer-actions.ts';
import {
  type Decision,
  type DecisionContext,
  decisionWith,
  type EntryDraft,
  findLocker,
  findSyncedReservation,
  type SyncedLocker,
  syncedLocker,
  type UnitModel,
  type UnitRental,
  withLocker,
} from './model.ts';

/**
 * Replaces what the unit knows of the lockers of a page, except for those about which it has a newer page. It ends the rental of a
 * reservation that the page lacks, once its door is closed, if the platform had recorded the beginning of the rental.
 */
export function syncReservations(
  unit: UnitModel,
  page: SyncReservations,
  context: DecisionContext,
): Decision<Omit<CommandAnswer, 'commandId'>> {
  const rejected = page.reservations.flatMap((reservation) => {
    const reason = reservationRefusal(unit, reservation, context.nowMs);
    return reason === undefined ? [] : [{ reservationId: reservation.reservationId, reason }];
  });
  const drafts: EntryDraft[] = [];
  let next = withPage(unit, page, new Set(rejected.map(({ reservationId }) => reservationId)));
  for (const id of page.lockers) {
    const locker = findLocker(next, id);
    if (locker?.rental?.reservationId === undefined || isOutdated(unit, id, page)) continue;
    const { rental, door } = locker;
    if (isWanted(next, page, rental)) {
      if (rental.releaseOnClose === true) next = withLocker(next, { ...locker, rental: withoutRelease(rental) });
    } else if (!isPast(unit, page, rental)) {
      // The platform has not recorded this use yet. Its next list will contain it.
    } else if (door === 'open') {
      next = withLocker(next, { ...locker, rental: { ...rental, releaseOnClose: true } });
    } else {
      const released = endRental(next, locker, rental, 'released', context.nowMs);
      next = released.unit;
      drafts.push(released.draft);
    }
  }
  const decided = decisionWith(next, context, drafts, null);
  const { epoch, lastSeq } = decided.unit.log;
  const rentals = page.lockers.flatMap((id) => findLocker(next, id)?.rental?.reservationId ?? []);
  return { ...decided, answer: { status: 'done', rejected, log: { epoch, lastSeq }, rentals } };
}

/** The unit with what the page says of its lockers. */
function withPage(unit: UnitModel, page: SyncReservations, rejected: ReadonlySet<string>): UnitModel {
  const covered = page.lockers.filter((id) => !isOutdated(unit, id, page));
  if (covered.length === 0) return unit;
  const { version, asOf, completeUntil, closed, timeZone } = page;
  const lockers = covered.map((id): [string, SyncedLocker] => [
    id,
    {
      version,
      bookings: asOf.bookings,
      ...(completeUntil === undefined ? {} : { completeUntil }),
      reservations: page.reservations.filter(
        ({ locker, reservationId }) => locker === id && !rejected.has(reservationId),
      ),
      closed: closed
        .filter(({ locker }) => locker === undefined || locker === id)
        .map(({ locker: _, ...period }) => period),
    },
  ]);
  return {
    ...unit,
    synced: { timeZone, lockers: bounded(unit, { ...unit.synced.lockers, ...Object.fromEntries(lockers) }) },
  };
}

/**
 * The unit also keeps what a page says of a locker that it lacks, which counts when the locker is installed. Of these it keeps
 * `MAX_LOCKERS_PER_UNIT` at most.
 */
function bounded(unit: UnitModel, known: UnitModel['synced']['lockers']): UnitModel['synced']['lockers'] {
  const lacking = Object.keys(known).filter((id) => findLocker(unit, id) === undefined);
  const forgotten = new Set(lacking.slice(0, Math.max(0, lacking.length - MAX_LOCKERS_PER_UNIT)));
  return forgotten.size === 0 ? known : Object.fromEntries(Object.entries(known).filter(([id]) => !forgotten.has(id)));
}

/** Whether the unit has a newer page about a locker. */
function isOutdated(unit: UnitModel, locker: string, { version, asOf: { bookings } }: SyncReservations): boolean {
  const known = syncedLocker(unit, locker);
  return known !== undefined && isOlderPage({ version, bookings }, known);
}

/** Whether the platform keeps the reservation of a rental, in this locker or in another one. */
function isWanted(unit: UnitModel, { reservations }: SyncReservations, { reservationId }: UnitRental): boolean {
  if (reservationId === undefined || reservations.some((listed) => listed.reservationId === reservationId)) return true;
  return findSyncedReservation(unit, reservationId) !== undefined;
}

/** Whether the page was computed from a log that contains the beginning of a rental. */
function isPast({ log }: UnitModel, { asOf }: SyncReservations, { startedSeq }: UnitRental): boolean {
  return asOf.epoch === log.epoch && startedSeq !== undefined && startedSeq <= asOf.seq;
}

/** The rental without `releaseOnClose`: a newer list names its reservation again. */
function withoutRelease({ releaseOnClose: _, ...rental }: UnitRental): UnitRental {
  return rental;
}

function reservationRefusal(unit: UnitModel, reservation: SyncedReservation, nowMs: number): string | undefined {
  const locker = findLocker(unit, reservation.locker);
  if (locker === undefined) return 'unknown-locker';
  if (LOCKER_SIZES.indexOf(locker.size) < LOCKER_SIZES.indexOf(reservation.size)) return 'locker-too-small';
  const rentedPeriod = rentalPeriod(locker, nowMs);
  if (rentedPeriod === undefined || locker.rental?.reservationId !== undefined) return undefined;
  return overlaps(rentedPeriod, { fromMs: toMs(reservation.from), untilMs: toMs(reservation.until) })
    ? 'occupied'
    : undefined;
}
