/** Which lockers of a unit an operator has taken out of service, and for which periods. */

import type { Period } from '../period.ts';
import type { RegisteredUnit } from './registry.ts';

/** Whether the unit sells a locker for a period. */
export function isForRent({ lockers }: RegisteredUnit, lockerId: string, _period: Period): boolean {
  return lockers.some(({ id, inService }) => id === lockerId && inService);
}
