/** The decisions of operators on a whole unit: its properties, and its end. */

import canonicalize from 'canonicalize';
import type { EventOf } from '../events/catalogue.ts';
import type { EventDraft } from '../events/drafts.ts';
import { Refusal } from '../refusal.ts';
import { isRepeatedCommand, type RegisteredUnit, type RegistryState, requireUnit } from './registry.ts';

export type UnitChanges = EventOf<'UnitUpdated'>;

/**
 * Changes properties of a unit; decides nothing when all have their values already.
 *
 * @param expectedRevision the revision that the operator has read; without it, the change always applies
 * @throws Refusal `precondition-failed`, `not-found`
 */
export function updateUnit(
  state: RegistryState,
  changes: UnitChanges,
  commandId: string,
  expectedRevision?: number,
): EventDraft[] {
  const unit = requireUnit(state);
  if (isRepeatedCommand(unit, commandId)) return [];
  if (expectedRevision !== undefined && expectedRevision !== unit.revision)
    throw new Refusal(
      'precondition-failed',
      `The unit is at revision ${unit.revision} by now, not ${expectedRevision}. Read it again before you change it.`,
    );
  const data = changedProperties(unit, changes);
  return Object.keys(data).length === 0 ? [] : [{ type: 'UnitUpdated', data }];
}

function changedProperties(unit: RegisteredUnit, changes: UnitChanges): UnitChanges {
  const changed = Object.entries(changes).filter(([property, value]) => {
    const present = unit[property as keyof UnitChanges];
    return value !== undefined && canonicalize(present) !== canonicalize(value);
  });
  return Object.fromEntries(changed);
}

/** Retires a unit. The caller refuses while the unit is in use. A retired unit stays as it is. @throws Refusal `not-found` */
export function retireUnit(
  state: RegistryState,
  { reason, isForced }: { readonly reason?: string | undefined; readonly isForced: boolean },
): EventDraft[] {
  if (state.status === 'retired') return [];
  requireUnit(state);
  const data = { ...(reason === undefined ? {} : { reason }), ...(isForced ? { forced: true } : {}) };
  return [{ type: 'UnitRetired', data }];
}
