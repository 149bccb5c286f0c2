/** When the lockers of a unit are closed: the unit must not rent them out at its screen in these periods. */

import type { ClosedPeriod } from '../unit-protocol/reservation-list.ts';
import type { RegisteredUnit } from './registry.ts';

/** The periods in which one locker is out of service. A locker that is not registered is closed: the platform cannot follow its use. */
export function closedPeriodsOf({ lockers }: RegisteredUnit, lockerId: string): ClosedPeriod[] {
  const locker = lockers.find(({ id }) => id === lockerId);
  if (locker === undefined) return [{ locker: lockerId }];
  if (locker.outOfService === undefined) return [];
  const { since, until } = locker.outOfService;
  return [{ locker: lockerId, from: since, ...(until === undefined ? {} : { until }) }];
}

/** The periods in which the whole unit is closed. */
export function closedPeriodsOfUnit({ maintenance }: RegisteredUnit): ClosedPeriod[] {
  return maintenance.map(({ from, until }) => ({ from, until }));
}
