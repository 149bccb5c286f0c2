/**
 * A reservation that cannot have its locker: another customer occupies it, its door failed, the unit refused it, or it is out of
 * service. The reservation moves to another locker as soon as one fits, and is given up when none fits in time.
 */

import type { EventDraft } from '../events/drafts.ts';
import { overlaps, type Period } from '../period.ts';
import type { RegisteredUnit } from '../registry/registry.ts';
import { displacementReason } from '../registry/service.ts';
import { toMs } from '../vocabulary.ts';
import { type FreeLockers, freeLockers, OVERDUE_ALLOWANCE_MS, periodOf, smallestFittingLocker } from './allocation.ts';
import type { BookingContext } from './context.ts';
import type { Reservation } from './reservation.ts';

/** How long a paid customer waits for a locker that should be free, from the beginning of the period or from the failure. */
export const GIVE_UP_AFTER_MS = OVERDUE_ALLOWANCE_MS;
/** A short reservation is given up this long before its end at the latest, because settlement may come a little late. */
const GIVE_UP_BEFORE_END_MS = 60_000;

export interface Displacement {
  /** A sentence for the customer. */
  readonly reason: string;
  /** The rental that occupies the locker. */
  readonly rentalId?: string;
  /** When the reservation ends unless another locker fits before, milliseconds since 1970. */
  readonly giveUpAtMs: number;
}

/** The use of a locker. */
interface Occupant extends Period {
  readonly rentalId?: string;
  /** Absent for a walk-up. */
  readonly reservationId?: string;
}

/** The uses of a unit's lockers, by locker. */
export type Occupants = ReadonlyMap<string, readonly Occupant[]>;

/**
 * Why a held or confirmed reservation cannot have its locker; `undefined` when it can. After its period, only a door that failed for its
 * customer counts: any other occupant may have left in time, and a unit that is cut off has yet to report what happened.
 */
export function displacementOf(
  unit: RegisteredUnit,
  occupants: Occupants,
  reservation: Reservation,
  nowMs: number,
): Displacement | undefined {
  const { locker, unitAck } = reservation;
  const period = periodOf(reservation);
  const failureMs = failureGivenUpAtMs(reservation);
  const failure =
    failureMs === undefined ? undefined : { reason: `Locker ${locker} did not open.`, giveUpAtMs: failureMs };
  if (period.untilMs <= nowMs) return failure;
  const reason = displacementReason(unit, locker, period);
  if (reason !== undefined) return { reason, giveUpAtMs: nowMs };
  if (unitAck === 'rejected') return { reason: `The unit refused locker ${locker}.`, giveUpAtMs: nowMs };
  if (failure !== undefined) return failure;
  const occupant = othersIn(occupants, reservation).find(
    (candidate) => displacesFromMs(candidate, period) <= nowMs && candidate.fromMs < period.untilMs,
  );
  if (occupant === undefined) return undefined;
  const { rentalId, reservationId } = occupant;
  return {
    reason:
      reservationId === undefined
        ? `A walk-up rental occupies locker ${locker}.`
        : `Locker ${locker} was not given back.`,
    ...(rentalId === undefined ? {} : { rentalId }),
    giveUpAtMs: occupantGivenUpAtMs(occupant, period) ?? nowMs,
  };
}

/** The times at which time alone displaces a held or confirmed reservation or gives it up, milliseconds since 1970. */
export function displacementTimesMs(occupants: Occupants, reservation: Reservation): number[] {
  const period = periodOf(reservation);
  const times = othersIn(occupants, reservation)
    .filter(({ fromMs }) => fromMs < period.untilMs)
    .flatMap((occupant) => [
      displacesFromMs(occupant, period),
      occupantGivenUpAtMs(occupant, period) ?? Number.POSITIVE_INFINITY,
    ]);
  const failedMs = failureGivenUpAtMs(reservation);
  return (failedMs === undefined ? times : [...times, failedMs]).filter((atMs) => atMs < period.untilMs);
}

/** Moves a displaced reservation to a free locker, or gives it up when its time has come. */
export function settleDisplaced(
  unit: RegisteredUnit,
  state: BookingContext,
  occupants: Occupants,
  reservation: Reservation,
  nowMs: number,
): EventDraft[] {
  if (reservation.status !== 'held' && reservation.status !== 'confirmed') return [];
  const displacement = displacementOf(unit, occupants, reservation, nowMs);
  if (displacement === undefined) return [];
  const { id, locker, bookedSize, failedLockers = {} } = reservation;
  const { reason, rentalId, giveUpAtMs } = displacement;
  const free = withoutFailed(freeLockers(unit, state, periodOf(reservation), nowMs, id), failedLockers);
  const target = nowMs < toMs(reservation.until) ? smallestFittingLocker(free, bookedSize) : undefined;
  if (target === undefined && nowMs < giveUpAtMs) return [];
  const conflict: EventDraft = {
    type: 'ReservationConflictDetected',
    locker,
    data: {
      reservationId: id,
      locker,
      ...(rentalId === undefined ? {} : { rentalId }),
      resolution: target === undefined ? 'rejected' : 'moved',
    },
  };
  if (target === undefined)
    return [conflict, { type: 'ReservationRejected', locker, data: { reservationId: id, reason } }];
  const data = { reservationId: id, fromLocker: locker, toLocker: target.id, size: target.size, reason };
  return [conflict, { type: 'ReservationMoved', locker: target.id, data }];
}

function withoutFailed({ certain, doubtful }: FreeLockers, failed: Readonly<Record<string, string>>): FreeLockers {
  const isUntried = ({ id }: { readonly id: string }) => !Object.hasOwn(failed, id);
  return { certain: certain.filter(isUntried), doubtful: doubtful.filter(isUntried) };
}

/**
 * The uses of all lockers. A unit that has not reported a use yet may still have opened the door for it, so active reservations count
 * beside the reported rentals.
 */
export function occupantsOf({ device, booking }: Pick<BookingContext, 'device' | 'booking'>): Occupants {
  const occupants = new Map<string, Occupant[]>();
  const add = (locker: string, occupant: Occupant) => {
    const known = occupants.get(locker);
    if (known === undefined) occupants.set(locker, [occupant]);
    else known.push(occupant);
  };
  for (const [locker, { rental }] of Object.entries(device.lockers)) {
    if (rental === undefined) continue;
    const { rentalId, reservationId, startedAt, until } = rental;
    const period = { fromMs: toMs(startedAt), untilMs: toMs(until) };
    add(locker, { ...period, rentalId, ...(reservationId === undefined ? {} : { reservationId }) });
  }
  for (const reservation of booking.open) {
    const { id, status, locker } = reservation;
    const isReported = device.lockers[locker]?.rental?.reservationId === id;
    if (status === 'active' && !isReported) add(locker, { ...periodOf(reservation), reservationId: id });
  }
  return occupants;
}

function othersIn(occupants: Occupants, { id, locker }: Reservation): readonly Occupant[] {
  return (occupants.get(locker) ?? []).filter(({ reservationId }) => reservationId !== id);
}

/**
 * From when on an occupant displaces a reservation. One that should end before the period begins is expected to: it displaces once it
 * is overdue and the period begins within the allowance.
 */
function displacesFromMs(occupant: Period, period: Period): number {
  if (overlaps(occupant, period)) return Number.NEGATIVE_INFINITY;
  return Math.max(occupant.untilMs, period.fromMs - OVERDUE_ALLOWANCE_MS + 1);
}

/** When a reservation is given up for an occupant that is overdue; `undefined`: at once, because the occupant may stay. */
function occupantGivenUpAtMs(occupant: Period, period: Period): number | undefined {
  if (overlaps(occupant, period)) return undefined;
  return Math.min(period.fromMs + GIVE_UP_AFTER_MS, period.untilMs - GIVE_UP_BEFORE_END_MS);
}

/** When a reservation whose door failed is given up; `undefined` when its door did not fail. */
function failureGivenUpAtMs(reservation: Reservation): number | undefined {
  const failedAt = reservation.failedLockers?.[reservation.locker];
  if (failedAt === undefined) return undefined;
  const { fromMs, untilMs } = periodOf(reservation);
  return Math.min(Math.max(fromMs, toMs(failedAt)) + GIVE_UP_AFTER_MS, untilMs - GIVE_UP_BEFORE_END_MS);
}
