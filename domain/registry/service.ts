/** Which lockers of a unit an operator has taken out of service, and for which periods. */

import type { Period } from '../period.ts';
import type { RegisteredUnit } from './registry.ts';

/** Whether the unit sells a locker for a period. */
export function isForRent({ lockers }: RegisteredUnit, lockerId: string, _period: Period): boolean {
  return lockers.some(({ id, inService }) => id === lockerId && inService);
}

/**
 * Why the bookings of a locker that overlap a period must move to another locker or end, as a sentence; `undefined` when they may
 * stay.
 */
export function displacementReason(unit: RegisteredUnit, lockerId: string, _period: Period): string | undefined {
  if (unit.status === 'retired') return 'The unit has left the platform.';
  const locker = unit.lockers.find(({ id }) => id === lockerId);
  if (locker === undefined) return `The unit has no locker ${lockerId}.`;
  return locker.inService ? undefined : `Locker ${lockerId} is out of service.`;
}

/** When time alone next changes what `isForRent` or `displacementReason` answer, milliseconds since 1970. */
export function nextServiceChangeAtMs(_unit: RegisteredUnit, _nowMs: number): number | undefined {
  return undefined;
}
