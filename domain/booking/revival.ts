/**
 * A reservation that the platform had ended and that a unit used: the customer redeemed it at a unit that could not know, or opened its
 * locker again after the unit was wiped. The use stands, and the difference is recorded as a conflict.
 */

import type { Usage } from '../device/usage.ts';
import type { EventDraft } from '../events/drafts.ts';
import type { Reservation } from './reservation.ts';

const ENDED: ReadonlySet<Reservation['status']> = new Set(['cancelled', 'expired', 'rejected', 'completed']);

/** The conflict that comes before the start of a revived reservation; nothing when the reservation was not ended. */
export function recordRevival({ id, status }: Reservation, { locker }: Usage): EventDraft[] {
  if (!ENDED.has(status)) return [];
  return [{ type: 'ReservationConflictDetected', locker, data: { reservationId: id, locker, resolution: 'used' } }];
}
