/**
 * Which finished reservations the state of a unit keeps. Reservations are of three kinds, and none displaces those of another kind: a
 * customer who lets holds expire must not remove the reservation that another customer has paid for and that a late report proves used.
 */

import type { Reservation } from './reservation.ts';

/** The reservations of each kind that finished last are kept, so that a late command is refused with the reason and not as not found. */
export const MAX_FINISHED_RESERVATIONS = 32;
/**
 * Reservations of each locker that were paid for and ended without a reported use are kept beyond that. So the bound grows with the
 * lockers: the unit may have been cut off, and may report later that the customer came.
 */
export const MAX_UNUSED_RESERVATIONS_PER_LOCKER = 4;
/** Bound on the kept reservations that were paid for and not used: as many as the largest unit can have by its lockers. */
const MAX_UNUSED_RESERVATIONS = 4_000;

type Kind = 'unpaid' | 'unused' | 'completed';

/** Appends a finished reservation, and removes the first ones of its kind beyond the bounds. */
export function addFinished(finished: readonly Reservation[], reservation: Reservation): readonly Reservation[] {
  const kind = kindOf(reservation);
  const all = [...finished, reservation];
  if (all.length <= MAX_FINISHED_RESERVATIONS) return all;
  let ofKind = 0;
  const ofLocker = new Map<string, number>();
  const isKept = (candidate: Reservation): boolean => {
    if (kindOf(candidate) !== kind) return true;
    ofKind += 1;
    const count = 1 + (ofLocker.get(candidate.locker) ?? 0);
    ofLocker.set(candidate.locker, count);
    if (ofKind <= MAX_FINISHED_RESERVATIONS) return true;
    return kind === 'unused' && ofKind <= MAX_UNUSED_RESERVATIONS && count <= MAX_UNUSED_RESERVATIONS_PER_LOCKER;
  };
  // From the last to the first, because the last ones are kept.
  return all.toReversed().filter(isKept).reverse();
}

function kindOf({ status, confirmedAt }: Reservation): Kind {
  if (status === 'completed') return 'completed';
  return confirmedAt === undefined ? 'unpaid' : 'unused';
}
