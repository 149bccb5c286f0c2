/** What operators do with the service of a unit's lockers, and a slow count of what is in service. */

import type { EventDraft } from '../../domain/events/drafts.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import type { SeededRandom } from './random.ts';

const DAY_MS = 86_400_000;

/** Something that an operator does with the service of a locker or of the whole unit. */
export function serviceDraft(
  chance: SeededRandom,
  { n, atMs, locker }: { n: number; atMs: number; locker: string },
): EventDraft {
  const untilMs = atMs + 1 + chance.below(3 * DAY_MS);
  const until = toInstant(untilMs);
  switch (chance.below(6)) {
    case 0:
      return { type: 'LockerTakenOutOfService', data: { id: locker } };
    case 1:
      return { type: 'LockerTakenOutOfService', data: { id: locker, until } };
    case 2: {
      const from = toInstant(atMs + chance.below(untilMs - atMs));
      return { type: 'UnitMaintenancePlanned', data: { id: `m${n}`, from, until, reason: 'x' } };
    }
    case 3:
      return { type: 'UnitMaintenanceCancelled', data: { id: `m${n - 1 - chance.below(8)}` } };
    case 4:
      return chance.below(4) === 0
        ? { type: 'LockerRemoved', data: { id: locker } }
        : { type: 'LockerReturnedToService', data: { id: locker } };
    default:
      return { type: 'LockerReturnedToService', data: { id: locker } };
  }
}

/** Whether a locker is in service at a moment, from all that operators did until then. */
export function isInService(drafts: readonly EventDraft[], locker: string, atMs: number): boolean {
  const cancelledAfter = (id: string, index: number) =>
    drafts.slice(index).some((draft) => draft.type === 'UnitMaintenanceCancelled' && draft.data.id === id);
  const isClosed = drafts.some(
    (draft, index) =>
      draft.type === 'UnitMaintenancePlanned' &&
      Date.parse(draft.data.from) <= atMs &&
      atMs < Date.parse(draft.data.until) &&
      !cancelledAfter(draft.data.id, index),
  );
  if (isClosed) return false;
  const last = drafts.findLast(
    (draft) =>
      (draft.type === 'LockerTakenOutOfService' ||
        draft.type === 'LockerReturnedToService' ||
        draft.type === 'LockerRemoved') &&
      draft.data.id === locker,
  );
  if (last?.type === 'LockerRemoved') return false;
  if (last?.type !== 'LockerTakenOutOfService') return true;
  return last.data.until !== undefined && Date.parse(last.data.until) <= atMs;
}

/** The moments at which time alone may change what is in service. */
export function servicePlans(drafts: readonly EventDraft[]): number[] {
  return drafts.flatMap((draft) => {
    if (draft.type === 'UnitMaintenancePlanned') return [Date.parse(draft.data.from), Date.parse(draft.data.until)];
    const isOut = draft.type === 'LockerTakenOutOfService' && draft.data.until !== undefined;
    return isOut ? [Date.parse(draft.data.until ?? '')] : [];
  });
}
