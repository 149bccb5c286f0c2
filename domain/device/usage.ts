import { toMs } from '../vocabulary.ts';

/** Uses that are remembered after they ended, however long ago that was. */
const MIN_REMEMBERED_USES = 64;
/** Most that are remembered, also when they all ended lately: as many as one batch of a unit can report. */
const MAX_REMEMBERED_USES = 500;
/**
 * Uses that ended this long before the newest are old. Their bookings are closed: a confirmed reservation that is not
 * known to be used is given up after as long (`NO_SHOW_GRACE_MS`).
 */
const USE_MEMORY_MS = 24 * 60 * 60_000;

/** How a reservation was used at the unit. */
export interface Usage {
  readonly startedAt: string;
  readonly locker: string;
  readonly endedAt?: string;
}

/** A use that is remembered. */
export interface ReservationUsage extends Usage {
  readonly reservationId: string;
}

export function findUsage(uses: readonly ReservationUsage[], reservationId: string): ReservationUsage | undefined {
  return uses.find((use) => use.reservationId === reservationId);
}

export function endUsage(
  uses: readonly ReservationUsage[],
  reservationId: string | undefined,
  time: string,
): readonly ReservationUsage[] {
  const use = reservationId === undefined ? undefined : findUsage(uses, reservationId);
  if (reservationId === undefined || use === undefined || use.endedAt !== undefined) return uses;
  return rememberUsage(uses, { ...use, endedAt: time });
}

/** Puts a use last, and lets the first ones go beyond the bounds; a use that still runs is never forgotten. */
export function rememberUsage(uses: readonly ReservationUsage[], use: ReservationUsage): readonly ReservationUsage[] {
  const kept = uses.filter(({ reservationId }) => reservationId !== use.reservationId);
  kept.push(use);
  if (kept.length <= MIN_REMEMBERED_USES) return kept;
  let surplus = kept.filter(({ endedAt }) => endedAt !== undefined).length - MIN_REMEMBERED_USES;
  if (surplus <= 0) return kept;
  const oldMs = toMs(use.endedAt ?? use.startedAt) - USE_MEMORY_MS;
  return kept.filter(({ endedAt }) => {
    if (endedAt === undefined || surplus <= 0) return true;
    surplus -= 1;
    if (surplus >= MAX_REMEMBERED_USES - MIN_REMEMBERED_USES || toMs(endedAt) < oldMs) return false;
    // Those behind it ended later, as a rule.
    surplus = 0;
    return true;
  });
}
