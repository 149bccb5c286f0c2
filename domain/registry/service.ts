/**
 * Which lockers of a unit are in service, and when: operators take lockers out of service and plan maintenance of the whole unit.
 *
 * The answers depend on the period of a booking and not on the present time: a locker that is out of service until 10:00 is for rent
 * from 10:00 as soon as the operator says so.
 */

import { overlaps, type Period } from '../period.ts';
import { toMs } from '../vocabulary.ts';
import type { Maintenance, OutOfService, RegisteredUnit } from './registry.ts';

/** Whether the unit sells a locker for a period. */
export function isForRent(unit: RegisteredUnit, lockerId: string, period: Period): boolean {
  if (unit.status === 'retired') return false;
  const locker = unit.lockers.find(({ id }) => id === lockerId);
  if (locker === undefined || maintenanceDuring(unit, period) !== undefined) return false;
  return locker.outOfService === undefined || !overlaps(outOfServicePeriod(locker.outOfService), period);
}

/** Whether the unit sells a locker at a moment, unless it is booked or rented. */
export function isInServiceAt(unit: RegisteredUnit, lockerId: string, atMs: number): boolean {
  return isForRent(unit, lockerId, { fromMs: atMs, untilMs: atMs + 1 });
}

/**
 * Why the bookings of a locker that overlap a period must move to another locker or end, as a sentence for the customer; `undefined`
 * when they may stay. The bookings of a locker that leaves service `when-free` stay.
 */
export function displacementReason(unit: RegisteredUnit, lockerId: string, period: Period): string | undefined {
  if (unit.status === 'retired') return 'The unit has left the platform.';
  const locker = unit.lockers.find(({ id }) => id === lockerId);
  if (locker === undefined) return `The unit has no locker ${lockerId}.`;
  const { outOfService } = locker;
  if (outOfService?.when === 'now' && overlaps(outOfServicePeriod(outOfService), period))
    return `Locker ${lockerId} is out of service.`;
  const maintenance = maintenanceDuring(unit, period);
  if (maintenance === undefined) return undefined;
  return `The unit is under maintenance from ${maintenance.from} until ${maintenance.until}.`;
}

/**
 * The lockers of a unit whose bookings may have to move, so that the others need not be asked for each booking; `undefined`: all of
 * them.
 */
function lockersToAsk({ status, lockers, maintenance }: RegisteredUnit): ReadonlySet<string> | undefined {
  if (status === 'retired' || maintenance.length > 0) return undefined;
  return new Set(lockers.filter(({ outOfService }) => outOfService !== undefined).map(({ id }) => id));
}

/** Answers `displacementReason(…) !== undefined` for many bookings of one unit. */
export function displacementCheck(unit: RegisteredUnit): (lockerId: string, period: Period) => boolean {
  const registered = new Set(unit.lockers.map(({ id }) => id));
  const asked = lockersToAsk(unit);
  return (lockerId, period) =>
    !registered.has(lockerId) ||
    ((asked === undefined || asked.has(lockerId)) && displacementReason(unit, lockerId, period) !== undefined);
}

/** When a locker next leaves or returns to service by time alone, milliseconds since 1970. */
export function nextServiceChangeAtMs({ lockers, maintenance }: RegisteredUnit, nowMs: number): number | undefined {
  const times = [
    ...lockers.flatMap(({ outOfService }) => (outOfService?.until === undefined ? [] : [toMs(outOfService.until)])),
    ...maintenance.flatMap(({ from, until }) => [toMs(from), toMs(until)]),
  ];
  const next = times.filter((atMs) => atMs > nowMs).reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  return next === Number.POSITIVE_INFINITY ? undefined : next;
}

/** The period for which a locker is out of service; it has no end until an operator returns the locker to service. */
export function outOfServicePeriod({ since, until }: OutOfService): Period {
  return { fromMs: toMs(since), untilMs: until === undefined ? Number.POSITIVE_INFINITY : toMs(until) };
}

/** The first planned maintenance of the unit that overlaps a period. */
function maintenanceDuring({ maintenance }: RegisteredUnit, period: Period): Maintenance | undefined {
  return maintenance.find(({ from, until }) => overlaps({ fromMs: toMs(from), untilMs: toMs(until) }, period));
}
