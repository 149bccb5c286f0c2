/** Commands of the platform. The unit executes each `commandId` once, and answers a repeated one with the stored answer. */

import { configurationHash } from '../../domain/configuration/configuration-hash.ts';
import { validateConfiguration } from '../../domain/configuration/validation.ts';
import type { VersionedConfiguration } from '../../domain/configuration-values.ts';
import type { Command, CommandAnswer } from '../../domain/unit-protocol/commands.ts';
import { MAX_TEXT_LENGTH, toInstant, toMs } from '../../domain/vocabulary.ts';
import { lockerOpenFailed } from './customer-actions.ts';
import {
  type Decision,
  type DecisionContext,
  decisionWith,
  type EntryDraft,
  findLocker,
  findSyncedReservation,
  type UnitModel,
  type UnitRental,
  withLocker,
} from './model.ts';
import { syncReservations } from './reservation-list.ts';

/** How long after `expiresAt` the unit remembers a command: longer than a copy of its signature can be valid. */
export const ANSWERED_RETENTION_MS = 10 * 60_000;
/** Most commands that the unit remembers. It refuses further ones until it may forget the oldest. */
export const MAX_ANSWERED_COMMANDS = 1_000;

type Answer = Omit<CommandAnswer, 'commandId'>;
type OpenLocker = Extract<Command, { openLocker: unknown }>['openLocker'];

/**
 * Executes a command, or gives the stored answer when the unit has executed it before. The unit does not remember pages of the list of
 * reservations: a repeated page changes nothing, and its answer says what is true now.
 */
export function executeCommand(unit: UnitModel, command: Command, context: DecisionContext): Decision<CommandAnswer> {
  const { commandId } = command;
  if ('syncReservations' in command) {
    const { answer, ...decided } = executeOnce(unit, command, context);
    return { ...decided, answer: { commandId, ...answer } };
  }
  const earlier = Object.hasOwn(unit.answeredCommands, commandId) ? unit.answeredCommands[commandId] : undefined;
  if (earlier !== undefined) return { unit, entries: [], answer: earlier.answer };
  const remembered = Object.entries(unit.answeredCommands).filter(([, { forgetAtMs }]) => forgetAtMs > context.nowMs);
  if (remembered.length >= MAX_ANSWERED_COMMANDS) {
    return { unit, entries: [], answer: { commandId, status: 'refused', reason: 'too-many-commands' } };
  }
  const executed = executeOnce(unit, command, context);
  const answer = { commandId, ...executed.answer };
  const forgetAtMs = Math.max(toMs(command.expiresAt) || 0, context.nowMs) + ANSWERED_RETENTION_MS;
  const answered = Object.fromEntries([...remembered, [commandId, { answer, forgetAtMs }]]);
  return { unit: { ...executed.unit, answeredCommands: answered }, entries: executed.entries, answer };
}

function executeOnce(unit: UnitModel, command: Command, context: DecisionContext): Decision<Answer> {
  // `toMs` gives NaN for an instant that cannot be read, and the comparison is false: such a command counts as expired.
  const isInTime = context.nowMs <= toMs(command.expiresAt);
  if (!isInTime) return decisionWith(unit, context, [], { status: 'refused', reason: 'expired' });
  if ('openLocker' in command) return openLockerByCommand(unit, command.commandId, command.openLocker, context);
  if ('applyConfiguration' in command) return applyConfiguration(unit, command.applyConfiguration, context);
  return syncReservations(unit, command.syncReservations, context);
}

/** Opens a locker. The first opening for a reservation starts its rental. */
export function openLockerByCommand(
  unit: UnitModel,
  commandId: string,
  { locker: id, reservationId, until: commandUntil, service = false }: OpenLocker,
  context: DecisionContext,
): Decision<Answer> {
  const unchanged = (status: 'failed' | 'refused', reason: string) =>
    decisionWith(unit, context, [], { status, reason });
  const locker = findLocker(unit, id);
  if (locker === undefined) return unchanged('refused', 'unknown-locker');
  if (service) return openForService(unit, commandId, locker, context);
  if (locker.rental !== undefined && locker.rental.reservationId !== reservationId)
    return unchanged('failed', 'occupied');
  // Without a reservation in the command, the rental of a walk-up would pass the comparison above.
  if (locker.rental !== undefined && reservationId === undefined) return unchanged('failed', 'occupied');
  const startsRental = locker.rental === undefined && reservationId !== undefined;
  if (startsRental && Object.hasOwn(unit.usedReservations, reservationId)) return unchanged('failed', 'given-back');
  if (startsRental && unit.lockers.some((other) => other.rental?.reservationId === reservationId)) {
    return unchanged('failed', 'rents-another-locker');
  }
  const synced = reservationId === undefined ? undefined : findSyncedReservation(unit, reservationId);
  const until = commandUntil ?? synced?.until;
  if (startsRental && until === undefined) return unchanged('refused', 'until-missing');
  if (context.jammedLockers.has(id)) {
    return decisionWith(unit, context, [lockerOpenFailed(id, commandId)], { status: 'failed', reason: 'jammed' });
  }
  const opened: EntryDraft = {
    type: 'LockerOpened',
    locker: id,
    causationId: commandId,
    data: { cause: 'command', commandId },
  };
  const openDoor = { ...locker, door: 'open' } as const;
  if (!startsRental || until === undefined)
    return decisionWith(withLocker(unit, openDoor), context, [opened], { status: 'done' });
  const rental: UnitRental = {
    rentalId: context.newId(),
    reservationId,
    startedAt: toInstant(context.nowMs),
    until,
    startedSeq: unit.log.lastSeq + 1,
  };
  const started: EntryDraft = {
    type: 'RentalStarted',
    locker: id,
    causationId: commandId,
    data: { rentalId: rental.rentalId, reservationId, until },
  };
  return decisionWith(withLocker(unit, { ...openDoor, rental }), context, [started, opened], { status: 'done' });
}

/** Opens a door for an operator. The rental in the locker, if there is one, goes on. */
function openForService(
  unit: UnitModel,
  commandId: string,
  locker: UnitModel['lockers'][number],
  context: DecisionContext,
): Decision<Answer> {
  const { id } = locker;
  if (context.jammedLockers.has(id))
    return decisionWith(unit, context, [lockerOpenFailed(id, commandId)], { status: 'failed', reason: 'jammed' });
  const opened: EntryDraft = {
    type: 'LockerOpened',
    locker: id,
    causationId: commandId,
    data: { cause: 'service', commandId },
  };
  return decisionWith(withLocker(unit, { ...locker, door: 'open' }), context, [opened], { status: 'done' });
}

/**
 * Replaces the whole configuration, and answers with the hash of the configuration that the unit runs afterwards. A refused or failed
 * configuration changes nothing.
 */
export function applyConfiguration(
  unit: UnitModel,
  desired: VersionedConfiguration,
  context: DecisionContext,
): Decision<Answer> {
  const { configuration } = unit;
  const unchanged = (status: 'failed' | 'refused', reason: string) =>
    decisionWith(unit, context, [], { status, reason, configurationHash: configuration.hash });
  const refusalReason = configurationRefusal(configuration, desired);
  if (refusalReason !== undefined) return unchanged('refused', refusalReason);
  if (context.configurationFault === 'refuses') return unchanged('refused', 'not-supported');
  if (context.configurationFault === 'fails') return unchanged('failed', 'cannot-apply');
  const { version, hash, values } = desired;
  if (context.configurationFault === 'other-hash') {
    return decisionWith(unit, context, [], { status: 'done', configurationHash: configuration.hash });
  }
  const configured = { ...unit, configuration: { version, hash, values } };
  return decisionWith(configured, context, [], { status: 'done', configurationHash: hash });
}

function configurationRefusal(
  running: VersionedConfiguration,
  { version, hash, values }: VersionedConfiguration,
): string | undefined {
  if (hash !== configurationHash(values)) return 'hash';
  if (version < running.version) return 'older-version';
  if (values.minimumMinutes > values.maximumMinutes) return 'minimum-above-maximum';
  const [violation] = validateConfiguration(values);
  return violation === undefined
    ? undefined
    : `invalid: ${violation.path} ${violation.message}`.slice(0, MAX_TEXT_LENGTH);
}
