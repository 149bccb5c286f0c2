/**
 * Lockers that a technician installs in a unit or removes from it. The unit keeps its log and its epoch, and appends no event: the
 * platform learns of a locker when an operator registers it.
 */

import { type Locker, MAX_LOCKERS_PER_UNIT } from '../../domain/vocabulary.ts';
import {
  type Decision,
  findLocker,
  type Outcome,
  refusal,
  type UnitLocker,
  type UnitModel,
  withLocker,
} from './model.ts';

/** Installs a locker, closed and empty. A repeat changes nothing. */
export function installLocker(unit: UnitModel, { id, size }: Locker): Decision<Outcome<{ locker: UnitLocker }>> {
  const present = findLocker(unit, id);
  if (present?.size === size) return { unit, entries: [], answer: { done: true, locker: present } };
  if (present !== undefined)
    return refusal(unit, 'locker-exists', `This unit has a locker ${id} of size ${present.size}. Remove it first.`);
  if (unit.lockers.length >= MAX_LOCKERS_PER_UNIT)
    return refusal(unit, 'too-many-lockers', `A unit has at most ${MAX_LOCKERS_PER_UNIT} lockers.`);
  const locker: UnitLocker = { id, size, door: 'closed' };
  return { unit: { ...unit, lockers: [...unit.lockers, locker] }, entries: [], answer: { done: true, locker } };
}

/** Removes a locker that is closed and not rented. */
export function removeLocker(unit: UnitModel, id: string): Decision<Outcome<{ locker: string }>> {
  const locker = findLocker(unit, id);
  if (locker === undefined) return refusal(unit, 'unknown-locker', `This unit has no locker ${id}.`);
  if (locker.rental !== undefined) return refusal(unit, 'occupied', `Locker ${id} is rented.`);
  if (locker.door === 'open') return refusal(unit, 'door-open', `The door of locker ${id} is open. Close it first.`);
  const remaining = unit.lockers.filter((other) => other.id !== id);
  return { unit: { ...unit, lockers: remaining }, entries: [], answer: { done: true, locker: id } };
}

/** Makes the lockers of a unit those that are registered, apart from lockers that are rented or open. */
export function fitLockers(unit: UnitModel, registered: readonly Locker[]): Decision<null> {
  let fitted = unit;
  for (const { id } of unit.lockers) {
    if (!registered.some((locker) => locker.id === id)) fitted = removeLocker(fitted, id).unit;
  }
  for (const { id, size } of registered) {
    const present = findLocker(fitted, id);
    if (present === undefined) fitted = installLocker(fitted, { id, size }).unit;
    else if (present.size !== size && present.rental === undefined) fitted = withLocker(fitted, { ...present, size });
  }
  return { unit: fitted, entries: [], answer: null };
}
