/** The decisions of operators on the lockers of a unit: which there are, which are in service, and which a unit opens for service. */

import type { EventOf } from '../events/catalogue.ts';
import type { EventDraft } from '../events/drafts.ts';
import { Refusal } from '../refusal.ts';
import { type Locker, MAX_LOCKERS_PER_UNIT, toInstant, toMs } from '../vocabulary.ts';
import { isRepeatedCommand, type RegisteredLocker, type RegistryState, requireUnit } from './registry.ts';

/** Bound on the planned maintenance of a unit that is not over. */
export const MAX_PLANNED_MAINTENANCE = 50;
/** How long after its decision a unit may still execute the command to open. */
export const SERVICE_OPEN_TTL_MS = 10_000;

interface LockerCommand {
  readonly commandId: string;
  readonly lockerId: string;
  readonly nowMs: number;
}

/** Adds a locker to a unit. @throws Refusal `validation` when the id is taken or the unit is full; `not-found` */
export function addLocker(state: RegistryState, locker: Locker, commandId: string): EventDraft[] {
  const unit = requireUnit(state);
  if (isRepeatedCommand(unit, commandId)) return [];
  if (unit.lockers.some(({ id }) => id === locker.id))
    throw new Refusal('validation', `The unit has a locker ${locker.id} already.`, [
      { path: '/id', message: 'is taken' },
    ]);
  if (unit.lockers.length >= MAX_LOCKERS_PER_UNIT)
    throw new Refusal('validation', `A unit has at most ${MAX_LOCKERS_PER_UNIT} lockers.`);
  return [{ type: 'LockerAdded', locker: locker.id, data: locker }];
}

/** Removes a locker. The caller refuses while customers use it. @throws Refusal `not-found` */
export function removeLocker(state: RegistryState, lockerId: string, commandId: string): EventDraft[] {
  const unit = requireUnit(state);
  if (isRepeatedCommand(unit, commandId)) return [];
  requireLocker(state, lockerId);
  return [{ type: 'LockerRemoved', locker: lockerId, data: { id: lockerId } }];
}

/** Takes a locker out of service. @throws Refusal `validation` when `until` has passed; `not-found` */
export function takeOutOfService(
  state: RegistryState,
  command: LockerCommand & Omit<EventOf<'LockerTakenOutOfService'>, 'id'>,
): EventDraft[] {
  const { commandId, lockerId, nowMs, reason, when = 'now', until } = command;
  if (isRepeatedCommand(requireUnit(state), commandId)) return [];
  const { outOfService } = requireLocker(state, lockerId);
  if (until !== undefined) requireFuture('/until', until, nowMs);
  const isUnchanged =
    outOfService !== undefined &&
    outOfService.reason === reason &&
    outOfService.when === when &&
    outOfService.until === until;
  if (isUnchanged) return [];
  const data = {
    id: lockerId,
    when,
    ...(reason === undefined ? {} : { reason }),
    ...(until === undefined ? {} : { until }),
  };
  return [{ type: 'LockerTakenOutOfService', locker: lockerId, data }];
}

/** Returns a locker to service; decides nothing for one that is in service. @throws Refusal `not-found` */
export function returnToService(state: RegistryState, lockerId: string, commandId: string): EventDraft[] {
  if (isRepeatedCommand(requireUnit(state), commandId)) return [];
  if (requireLocker(state, lockerId).outOfService === undefined) return [];
  return [{ type: 'LockerReturnedToService', locker: lockerId, data: { id: lockerId } }];
}

/** Plans maintenance of the whole unit; the command's id is the id of the maintenance. @throws Refusal `validation`, `not-found` */
export function planMaintenance(
  state: RegistryState,
  plan: Omit<EventOf<'UnitMaintenancePlanned'>, 'id'>,
  commandId: string,
  nowMs: number,
): EventDraft[] {
  const unit = requireUnit(state);
  if (isRepeatedCommand(unit, commandId)) return [];
  requireFuture('/until', plan.until, nowMs);
  if (toMs(plan.from) >= toMs(plan.until))
    throw new Refusal('validation', 'The maintenance ends before it begins.', [
      { path: '/until', message: 'must be later than from' },
    ]);
  const left = unit.maintenance.filter(({ until }) => toMs(until) > nowMs);
  if (left.length >= MAX_PLANNED_MAINTENANCE)
    throw new Refusal('validation', `A unit has at most ${MAX_PLANNED_MAINTENANCE} planned periods of maintenance.`);
  return [{ type: 'UnitMaintenancePlanned', data: { id: commandId, ...plan } }];
}

/** Cancels a planned maintenance, or ends a running one. @throws Refusal `not-found` */
export function cancelMaintenance(state: RegistryState, maintenanceId: string, commandId: string): EventDraft[] {
  const unit = requireUnit(state);
  if (isRepeatedCommand(unit, commandId)) return [];
  if (!unit.maintenance.some(({ id }) => id === maintenanceId))
    throw new Refusal('not-found', `The unit has no planned maintenance ${maintenanceId}.`);
  return [{ type: 'UnitMaintenanceCancelled', data: { id: maintenanceId } }];
}

/**
 * Requests that the unit opens a locker for an operator, also a rented one. The platform records the request before it sends the
 * command. A repeated request is checked anew, and is recorded once. @throws Refusal `closed` while the unit's credentials are revoked; `not-found`
 */
export function requestServiceOpen(
  state: RegistryState,
  command: LockerCommand & { readonly reason: string },
): EventDraft[] {
  const { commandId, lockerId, nowMs, reason } = command;
  const unit = requireUnit(state);
  requireLocker(state, lockerId);
  if (unit.credentialsRevoked)
    throw new Refusal('closed', 'The platform cannot reach this unit, because its credentials are revoked.');
  if (Object.hasOwn(unit.serviceOpenings, commandId)) return [];
  const expiresAt = toInstant(nowMs + SERVICE_OPEN_TTL_MS);
  return [{ type: 'ServiceOpenRequested', locker: lockerId, data: { locker: lockerId, commandId, reason, expiresAt } }];
}

/** Records what came of a request to open; decides nothing for a request that the state does not have, or that is answered. */
export function recordServiceOpenAnswer(state: RegistryState, answer: EventOf<'ServiceOpenAnswered'>): EventDraft[] {
  if (state.status === 'unregistered' || !Object.hasOwn(state.serviceOpenings, answer.commandId)) return [];
  const before = state.serviceOpenings[answer.commandId];
  // The server may send the command again after the unit was unreachable, so that only this outcome may change.
  if (before === answer.result || (before !== 'pending' && before !== 'unreachable')) return [];
  return [{ type: 'ServiceOpenAnswered', locker: answer.locker, data: answer }];
}

/** The locker of a registered unit. @throws Refusal `not-found` */
export function requireLocker(state: RegistryState, lockerId: string): RegisteredLocker {
  const locker = requireUnit(state).lockers.find(({ id }) => id === lockerId);
  if (locker === undefined) throw new Refusal('not-found', `The unit has no locker ${lockerId}.`);
  return locker;
}

function requireFuture(path: string, instant: string, nowMs: number): void {
  if (toMs(instant) > nowMs) return;
  throw new Refusal('validation', 'The time has passed.', [{ path, message: 'must lie in the future' }]);
}
