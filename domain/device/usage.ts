import { toMs } from '../vocabulary.ts';

/** Ended usages that are kept, whatever their age. */
const MIN_REMEMBERED_USES = 64;
/** Bound on kept usages that ended recently: as many as one batch of a unit can report. */
const MAX_REMEMBERED_USES = 500;
/**
 * A usage that ended this long before the newest one is old. Its booking has ended too: a confirmed reservation without a usage
 * expires after the same time (`NO_SHOW_GRACE_MS`).
 */
const USE_MEMORY_MS = 24 * 60 * 60_000;

/** How a reservation was used at the unit. */
export interface Usage {
  readonly startedAt: string;
  readonly locker: string;
  readonly endedAt?: string;
}

/** A usage that is kept. */
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

/** Appends a usage and drops the first ones beyond the bounds; a usage that still runs is never dropped. */
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
    // The usages behind it usually ended later.
    surplus = 0;
    return true;
  });
}
